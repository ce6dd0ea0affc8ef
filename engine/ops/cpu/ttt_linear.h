// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_CPU_TTT_LINEAR_H_
#define MNEME_ENGINE_OPS_CPU_TTT_LINEAR_H_

#include <cstdint>

#include "engine/ops/backend.h"

namespace mneme::cpu {

// Floats of scratch that TttLinearHead needs for slices of at most `rows`.
int64_t TttLinearScratchFloats(const TttLinearParams& params, int64_t rows);

// Backend::TttLinear for one slice and one head. On the block path the rows
// of a mini-batch are computed together (dual form), on the step path one by
// one. `scratch` has TttLinearScratchFloats, on a cache-line boundary.
void TttLinearHead(ComputePath path, const TttLinearParams& params,
                   const TttLinearInputs& inputs, const TttLinearSlice& slice,
                   int64_t head, float* scratch, Rows out);

}  // namespace mneme::cpu

#endif  // MNEME_ENGINE_OPS_CPU_TTT_LINEAR_H_
