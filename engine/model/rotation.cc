// SPDX-License-Identifier: Apache-2.0
#include "engine/model/rotation.h"

#include <cmath>

namespace mneme {

Rotation::Rotation(int64_t positions, int64_t head_dim, double theta) {
  for (int64_t position = 0; position < positions; ++position) {
    for (int64_t m = 0; m < head_dim / 2; ++m) {
      const double exponent = -2.0 * double(m) / double(head_dim);
      const double angle = double(position) * std::pow(theta, exponent);
      cosines.push_back(static_cast<float>(std::cos(angle)));
      sines.push_back(static_cast<float>(std::sin(angle)));
    }
  }
}

}  // namespace mneme
