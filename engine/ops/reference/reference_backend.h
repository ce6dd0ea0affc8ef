// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_REFERENCE_REFERENCE_BACKEND_H_
#define MNEME_ENGINE_OPS_REFERENCE_REFERENCE_BACKEND_H_

#include <memory>

#include "engine/ops/backend.h"

namespace mneme {

// Every operation as its formula reads, in double precision, one number after
// the other. Slow and obvious. Both compute paths are the same here, and a
// TTT layer is always computed in its primal form.
std::unique_ptr<Backend> MakeReferenceBackend();

}  // namespace mneme

#endif  // MNEME_ENGINE_OPS_REFERENCE_REFERENCE_BACKEND_H_
