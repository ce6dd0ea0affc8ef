// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_OPS_CPU_CPU_BACKEND_H_
#define MNEME_ENGINE_OPS_CPU_CPU_BACKEND_H_

#include <memory>

#include "engine/ops/backend.h"

namespace mneme {

// The backend that users run: oneDNN for the matrix products of the block
// path, our own Highway kernels for everything else, split over `threads`
// workers (>= 1, the caller included) at places that do not depend on their
// number.
//
// A weight matrix is held once, as [out, in] rows with a padded stride: the
// block path hands it to oneDNN as a transposed operand, the step path takes
// dot products along its rows, and an embedding table is read row by row.
std::unique_ptr<Backend> MakeCpuBackend(int threads);

}  // namespace mneme

#endif  // MNEME_ENGINE_OPS_CPU_CPU_BACKEND_H_
