// SPDX-License-Identifier: Apache-2.0
#include "engine/base/clock.h"

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(ClockTest, TheRealClockNeverMeasuresBackwards) {
  const Clock* clock = Clock::Real();
  absl::Duration last = clock->Monotonic();
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration now = clock->Monotonic();
    EXPECT_GE(now, last);
    last = now;
  }
}

TEST(ClockTest, TheRealClockShowsATimeOfThisCentury) {
  EXPECT_GT(Clock::Real()->Now(), absl::FromUnixSeconds(1'600'000'000));
  EXPECT_LT(Clock::Real()->Now(), absl::FromUnixSeconds(4'102'444'800));
}

}  // namespace
}  // namespace mneme
