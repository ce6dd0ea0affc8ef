// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/finite.h"

namespace mneme {

// A number times zero is zero, and an infinite one or none makes the sum none.
// Without a branch a number, the compiler keeps many sums at once.
bool AllFinite(absl::Span<const float> values) {
  constexpr size_t kLanes = 16;
  float sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += values[i + lane] * 0.0f;
    }
  }
  for (; i < values.size(); ++i) sums[0] += values[i] * 0.0f;
  float sum = 0;
  for (const float part : sums) sum += part;
  return sum == 0;
}

}  // namespace mneme
