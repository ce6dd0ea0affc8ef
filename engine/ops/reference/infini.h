// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_REFERENCE_INFINI_H_
#define MNEME_ENGINE_OPS_REFERENCE_INFINI_H_

#include "engine/ops/backend.h"

namespace mneme::reference {

// Backend::Infini for one slice, token by token.
void InfiniSliceByToken(const InfiniParams& params, const InfiniInputs& inputs,
                        const InfiniSlice& slice, Rows out);

// next_memory = memory with the first `tokens` rows of `open`.
void WriteInfiniMemory(const InfiniParams& params, const float* memory,
                       const float* open, int64_t tokens, float* next_memory);

}  // namespace mneme::reference

#endif  // MNEME_ENGINE_OPS_REFERENCE_INFINI_H_
