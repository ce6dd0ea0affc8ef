// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_CPU_TTT_H_
#define MNEME_ENGINE_OPS_CPU_TTT_H_

#include <cstdint>

#include "engine/ops/backend.h"

namespace mneme::cpu {

// Floats of scratch that TttHead needs for slices of at most `rows`.
int64_t ScratchFloats(const TttParams& params, int64_t rows);

// Backend::Ttt for one slice and one head. On the block path the rows of a
// mini-batch are computed together (dual form), on the step path one by one.
// `scratch` has ScratchFloats, on a cache-line boundary.
void TttHead(ComputePath path, const TttParams& params, const TttInputs& inputs,
             const TttSlice& slice, int64_t head, float* scratch, Rows out);

}  // namespace mneme::cpu

#endif  // MNEME_ENGINE_OPS_CPU_TTT_H_
