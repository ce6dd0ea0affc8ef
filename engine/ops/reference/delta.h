// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_REFERENCE_DELTA_H_
#define MNEME_ENGINE_OPS_REFERENCE_DELTA_H_

#include "engine/ops/backend.h"

namespace mneme::reference {

// Backend::Delta for one slice, token by token.
void DeltaSliceByToken(const DeltaParams& params, const DeltaInputs& inputs,
                       DeltaSlice& slice, Rows out);

}  // namespace mneme::reference

#endif  // MNEME_ENGINE_OPS_REFERENCE_DELTA_H_
