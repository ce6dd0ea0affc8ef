// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_CPU_DELTA_H_
#define MNEME_ENGINE_OPS_CPU_DELTA_H_

#include <cstdint>

#include "engine/ops/backend.h"

namespace mneme::cpu {

// Floats of scratch that DeltaHead needs for slices of at most `rows`.
int64_t ScratchFloats(const DeltaParams& params, int64_t rows);

// Whether any head of any row of the slice has a rate other than 0.
bool DeltaWrites(const DeltaInputs& inputs, const DeltaSlice& slice);

// Backend::Delta for one slice, of which `wrote` is set, and one head.
// `scratch` has ScratchFloats, on a cache-line boundary.
void DeltaHead(const DeltaParams& params, const DeltaInputs& inputs,
               const DeltaSlice& slice, int64_t head, float* scratch, Rows out);

}  // namespace mneme::cpu

#endif  // MNEME_ENGINE_OPS_CPU_DELTA_H_
