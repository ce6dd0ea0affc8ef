// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_CPU_ATTENTION_H_
#define MNEME_ENGINE_OPS_CPU_ATTENTION_H_

#include <cstdint>

#include "engine/ops/backend.h"

namespace mneme::cpu {

// Floats of scratch that AttentionHead needs for slices of at most `rows`, on
// a cache-line boundary.
int64_t ScratchFloats(const AttentionParams& params, int64_t rows);

// Backend::Attention for one slice and one kv head with its query heads. On
// the block path the rows are computed together, on the step path one by one.
void AttentionHead(ComputePath path, const AttentionParams& params,
                   const AttentionInputs& inputs, const AttentionSlice& slice,
                   int64_t kv_head, float* scratch, Rows out);

}  // namespace mneme::cpu

#endif  // MNEME_ENGINE_OPS_CPU_ATTENTION_H_
