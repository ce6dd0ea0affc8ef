// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_REFERENCE_TTT_H_
#define MNEME_ENGINE_OPS_REFERENCE_TTT_H_

#include "engine/ops/backend.h"

namespace mneme::reference {

// Backend::Ttt for one slice, token by token.
void TttSlicePrimal(const TttParams& params, const TttInputs& inputs,
                    const TttSlice& slice, Rows out);

}  // namespace mneme::reference

#endif  // MNEME_ENGINE_OPS_REFERENCE_TTT_H_
