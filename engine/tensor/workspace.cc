// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/workspace.h"

#ifndef NDEBUG
#include <algorithm>
#include <limits>
#endif

namespace mneme {

float* Workspace::Floats(int64_t count) {
  float* floats = reinterpret_cast<float*>(buffer_.data() + used_);
  used_ += FloatsBytes(count);
  MNEME_CHECK(used_ <= buffer_.bytes());
#ifndef NDEBUG
  std::fill_n(floats, count, std::numeric_limits<float>::quiet_NaN());
#endif
  return floats;
}

}  // namespace mneme
