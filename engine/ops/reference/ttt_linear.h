// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_REFERENCE_TTT_LINEAR_H_
#define MNEME_ENGINE_OPS_REFERENCE_TTT_LINEAR_H_

#include "engine/ops/backend.h"

namespace mneme::reference {

// Backend::TttLinear for one slice, token by token.
void TttLinearSlicePrimal(const TttLinearParams& params,
                          const TttLinearInputs& inputs,
                          const TttLinearSlice& slice, Rows out);

}  // namespace mneme::reference

#endif  // MNEME_ENGINE_OPS_REFERENCE_TTT_LINEAR_H_
