// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_ADDED_TOKENS_H_
#define MNEME_ENGINE_TEXT_ADDED_TOKENS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"

namespace mneme {

// "added_tokens" of a tokenizer.json: those that are found in text before it
// is respelled and cut into words. Special ones are not: a user who writes
// "</s>" has written four characters. (Nor do they hide others that begin or
// end inside of them, as they do in tokenizers.) Immutable.
class AddedTokens {
 public:
  struct Token {
    int32_t id = 0;
    std::string content;
    bool special = false;
  };

  // `normalizes`: whether text is respelled at all. INVALID_ARGUMENT naming
  // a token that is not served, the found and the wanted.
  static absl::StatusOr<AddedTokens> Parse(const nlohmann::json& added,
                                           int64_t vocab_size, bool normalizes);

  const std::vector<Token>& tokens() const { return tokens_; }

  struct Found {
    size_t begin = 0;
    size_t bytes = 0;
    absl::optional<int32_t> id;  // nothing: none that is certain
  };
  // The first token in `text`, of those that begin there the longest. If there
  // is none, `begin` is where one may begin yet, or the end. `open`: the text
  // goes on in a way that is not known.
  Found First(std::string_view text, bool open) const;

 private:
  // Those that are looked for together.
  struct Group {
    void Add(const Token& token);
    Found First(std::string_view text, bool open) const;

    std::array<std::vector<Token>, 256> by_byte;  // the longest first
    bool any = false;
  };

  std::vector<Token> tokens_;
  // Those of the first are found before those of the second.
  std::array<Group, 2> groups_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_ADDED_TOKENS_H_
