// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/batcher.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr BatchLimits kLimits = {.max_rows = 8, .max_sessions = 3};

size_t Next(const std::vector<int64_t>& waiting_rows) {
  return NextStepBatch(waiting_rows, kLimits);
}

TEST(NextStepBatchTest, NothingWaitingMakesNoPass) { EXPECT_EQ(Next({}), 0u); }

TEST(NextStepBatchTest, DemandsAreTakenWhileTheirRowsFit) {
  EXPECT_EQ(Next({3, 3, 2}), 3u);
  EXPECT_EQ(Next({3, 3, 3}), 2u);
  EXPECT_EQ(Next({8, 1}), 1u);
}

TEST(NextStepBatchTest, SessionsAreLimitedToo) {
  EXPECT_EQ(Next({1, 1, 1}), 3u);
  EXPECT_EQ(Next({1, 1, 1, 1}), 3u);
}

TEST(NextStepBatchTest, TheOldestAlwaysGoesHoweverLarge) {
  EXPECT_EQ(Next({9}), 1u);
  EXPECT_EQ(Next({1000, 1}), 1u);
}

TEST(NextStepBatchTest, ADemandThatDoesNotFitIsNotOvertaken) {
  EXPECT_EQ(Next({6, 3, 1}), 1u);
}

TEST(NextStepBatchTest, ADemandWithoutRowsCountsAsOne) {
  EXPECT_EQ(Next({7, 0, 0}), 2u);
  EXPECT_EQ(Next({0}), 1u);
  EXPECT_EQ(Next({8, 0}), 1u);
}

// All queues of up to five demands of up to four rows.
TEST(NextStepBatchTest, EveryQueueEmptiesInOrderWithinTheLimits) {
  for (int64_t code = 0; code < 5 * 5 * 5 * 5 * 5; ++code) {
    std::vector<int64_t> queue;
    for (int64_t rest = code; rest > 0; rest /= 5) queue.push_back(rest % 5);
    for (const BatchLimits& limits :
         {BatchLimits{.max_rows = 4, .max_sessions = 2},
          BatchLimits{.max_rows = 1, .max_sessions = 1},
          BatchLimits{.max_rows = 100, .max_sessions = 100}}) {
      std::vector<int64_t> left = queue;
      while (!left.empty()) {
        const size_t count = NextStepBatch(left, limits);
        ASSERT_GE(count, 1u);
        ASSERT_LE(count, left.size());
        int64_t rows = 0;
        for (size_t i = 0; i < count; ++i) {
          rows += std::max<int64_t>(left[i], 1);
        }
        if (count > 1) {
          ASSERT_LE(rows, limits.max_rows);
          ASSERT_LE(static_cast<int64_t>(count), limits.max_sessions);
        }
        if (count < left.size()) {
          // The next one truly did not fit.
          ASSERT_TRUE(rows + std::max<int64_t>(left[count], 1) >
                          limits.max_rows ||
                      static_cast<int64_t>(count) == limits.max_sessions);
        }
        left.erase(left.begin(), left.begin() + static_cast<int64_t>(count));
      }
    }
  }
}

}  // namespace
}  // namespace mneme
