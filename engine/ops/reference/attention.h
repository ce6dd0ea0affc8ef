// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_REFERENCE_ATTENTION_H_
#define MNEME_ENGINE_OPS_REFERENCE_ATTENTION_H_

#include "engine/ops/backend.h"

namespace mneme::reference {

// Backend::Attention for one slice, token by token.
void AttentionSliceByToken(const AttentionParams& params,
                           const AttentionInputs& inputs,
                           const AttentionSlice& slice, Rows out);

}  // namespace mneme::reference

#endif  // MNEME_ENGINE_OPS_REFERENCE_ATTENTION_H_
