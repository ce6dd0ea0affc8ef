// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TENSOR_FINITE_H_
#define MNEME_ENGINE_TENSOR_FINITE_H_

#include "absl/types/span.h"

namespace mneme {

// Whether no number is infinite or none.
bool AllFinite(absl::Span<const float> values);

}  // namespace mneme

#endif  // MNEME_ENGINE_TENSOR_FINITE_H_
