// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_BPE_H_
#define MNEME_ENGINE_TEXT_BPE_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/optional.h"

namespace mneme {

// A piece of a text that is being merged.
struct BpeSymbol {
  int32_t begin = 0;  // in the text
  int32_t bytes = 0;
  bool frozen = false;  // never merged
};

// Byte-pair encoding (Sennrich et al., 2016): merges neighbours until no two
// of them make a piece. The pair whose piece has the highest score goes first,
// among equals the leftmost.
//
//   symbols  the text, cut into what is merged first; then the result
//   score    of the piece that these bytes of the text are, if they are one
void MergeSymbols(
    absl::FunctionRef<absl::optional<float>(int32_t begin, int32_t bytes)>
        score,
    std::vector<BpeSymbol>& symbols);

// A token, or what two of them merge to.
struct RankedSymbol {
  int32_t id = 0;
  int32_t bytes = 0;  // of the text
};
struct RankedMerge {
  int32_t rank = 0;
  int32_t id = 0;  // of the token that it makes
};

// The same over a list of merges of tokens: the pair whose merge has the lowest
// rank goes first, among equals the leftmost. As in tokenizers 0.23, a pair
// that two others took the place of keeps its place in the order if they merge
// to the same token.
//
//   symbols  the text's tokens before any merge; then the result
//   merge    of two neighbours, by their ids; null if they do not merge
void MergeByRank(
    absl::FunctionRef<const RankedMerge*(int32_t left, int32_t right)> merge,
    std::vector<RankedSymbol>& symbols);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_BPE_H_
