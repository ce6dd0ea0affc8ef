// SPDX-License-Identifier: Apache-2.0
#include "client/backoff.h"

#include <algorithm>

namespace mneme::client {

absl::Duration Backoff::Next() {
  const absl::Duration step = std::min(next_, cap_);
  next_ = std::min(2 * step, cap_);
  return step * absl::Uniform(random_, 0.5, 1.0);
}

}  // namespace mneme::client
