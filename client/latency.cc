// SPDX-License-Identifier: Apache-2.0
#include "client/latency.h"

#include <algorithm>
#include <cmath>

namespace mneme::client {

double Latencies::Percentile(double share) const {
  if (milliseconds_.empty()) return 0;
  std::vector<double> copy = milliseconds_;
  const auto size = static_cast<double>(copy.size());
  const auto rank =
      static_cast<int64_t>(std::clamp(std::ceil(share * size), 1.0, size));
  const auto wanted = copy.begin() + (rank - 1);
  std::nth_element(copy.begin(), wanted, copy.end());
  return *wanted;
}

}  // namespace mneme::client
