// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SUPPORT_MOVED_CLOCK_H_
#define MNEME_TESTS_SUPPORT_MOVED_CLOCK_H_

#include <atomic>
#include <cstdint>

#include "engine/base/clock.h"

namespace mneme {

// The machine's clock, moved by hand.
class MovedClock final : public Clock {
 public:
  absl::Time Now() const override {
    return Real()->Now() + absl::Seconds(moved_ + jumped_);
  }
  absl::Duration Monotonic() const override {
    return Real()->Monotonic() + absl::Seconds(moved_.load());
  }
  // So much time passes.
  void Move(int64_t seconds) { moved_ += seconds; }
  // None passes, and the wall clock says so.
  void Jump(int64_t seconds) { jumped_ += seconds; }

 private:
  std::atomic<int64_t> moved_ = 0;
  std::atomic<int64_t> jumped_ = 0;
};

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_MOVED_CLOCK_H_
