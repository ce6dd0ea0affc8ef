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

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_BPE_H_
