// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_BYTE_PAIR_MODEL_H_
#define MNEME_ENGINE_TEXT_BYTE_PAIR_MODEL_H_

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/text/bpe.h"

namespace mneme {

// "model" of a tokenizer.json, of type BPE: makes tokens of words as
// tokenizers 0.23 does. Immutable and thread-safe.
class BytePairModel {
 public:
  // How the other components have text spelled.
  struct Spelling {
    bool bytes = false;  // tokens are bytes in GPT-2's alphabet
    bool local = false;  // words may be cut where Separates
    // Ids that no text becomes: special tokens.
    absl::flat_hash_set<int32_t> never;
  };

  // INVALID_ARGUMENT naming what is not served or contradicts itself, the
  // found and the wanted. Every id is below `vocab_size`.
  static absl::StatusOr<BytePairModel> Parse(const nlohmann::json& model,
                                             int64_t vocab_size,
                                             const Spelling& spelling);

  // [as many as the highest id says] What tokens are called in the file; empty
  // for ids that it leaves out.
  const std::vector<std::string>& names() const { return names_; }
  absl::optional<int32_t> unknown() const { return unknown_; }

  // The tokens of a word.
  std::vector<RankedSymbol> Encode(std::string_view word) const;

  // Bytes of the character that `text` begins with, as words are cut.
  size_t CharBytes(std::string_view text) const;
  // Whether `left` and `right` of those, beside each other in a word, can be
  // encoded apart. False unless words are local.
  bool Separates(std::string_view left, std::string_view right) const;

 private:
  using Ids = absl::flat_hash_map<std::string, int32_t>;

  static uint64_t PairKey(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 |
           static_cast<uint32_t>(right);
  }
  static char32_t CharOf(std::string_view bytes);
  const RankedMerge* MergeOf(int32_t left, int32_t right) const;
  absl::Status ReadNames(const nlohmann::json& vocabulary, int64_t vocab_size,
                         Ids& ids);
  absl::Status ReadMerges(const nlohmann::json& merges,
                          const Spelling& spelling, const Ids& ids);
  absl::Status ReadMerge(const nlohmann::json& merge, const Spelling& spelling,
                         const Ids& ids, int32_t rank);
  absl::Status MakeTables(const Spelling& spelling, const Ids& ids);
  void NotePairs(std::string_view token);

  bool spells_bytes_ = false;
  bool local_ = false;
  bool byte_fallback_ = false;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
  absl::optional<int32_t> unknown_;
  std::vector<std::string> names_;
  absl::flat_hash_map<uint64_t, RankedMerge> merges_;  // by PairKey of ids
  absl::flat_hash_map<char32_t, int32_t> chars_;       // tokens of one; ids
  std::array<int32_t, 256> byte_ids_{};                // byte_fallback
  Ids words_;                            // ignore_merges: spelled; ids
  absl::flat_hash_set<uint64_t> pairs_;  // local: neighbours inside of tokens
};

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_BYTE_PAIR_MODEL_H_
