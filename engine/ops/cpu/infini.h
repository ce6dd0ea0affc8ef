// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_CPU_INFINI_H_
#define MNEME_ENGINE_OPS_CPU_INFINI_H_

#include <cstdint>

#include "engine/ops/backend.h"

namespace mneme::cpu {

// Floats of scratch that the functions below need for slices of at most
// `rows`, on a cache-line boundary.
int64_t ScratchFloats(const InfiniParams& params, int64_t rows);

// Backend::Infini for one slice and one kv head with its query heads. On the
// block path the rows of a segment are computed together, on the step path one
// by one.
void InfiniHead(ComputePath path, const InfiniParams& params,
                const InfiniInputs& inputs, const InfiniSlice& slice,
                int64_t kv_head, float* scratch, Rows out);

// Backend::CloseInfiniSegment for one kv head.
void CloseInfiniHead(const InfiniParams& params, const InfiniSlice& slice,
                     int64_t kv_head, float* scratch);

}  // namespace mneme::cpu

#endif  // MNEME_ENGINE_OPS_CPU_INFINI_H_
