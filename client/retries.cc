// SPDX-License-Identifier: Apache-2.0
#include "client/retries.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "client/status.h"

namespace mneme::client {

bool Retries::Wait(const absl::Status& status) {
  if (++attempts_ >= options_.max_attempts || !IsRetryable(status)) {
    return false;
  }
  absl::Duration wait = backoff_.Next();
  if (const auto asked = RetryDelayOf(status)) wait = std::max(wait, *asked);
  if (absl::Now() + wait >= deadline_) return false;
  if (options_.wait) {
    options_.wait(wait);
  } else {
    calls_->Wait(wait, cancellations_);
  }
  return calls_->cancellations() == cancellations_;
}

}  // namespace mneme::client
