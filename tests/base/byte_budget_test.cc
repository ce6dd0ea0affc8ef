// SPDX-License-Identifier: Apache-2.0
#include "engine/base/byte_budget.h"

#include <thread>
#include <utility>
#include <vector>

#include "engine/base/errors.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using testing::Pair;

TEST(ByteBudgetTest, AReservationTakesItsBytesAndGivesThemBackAtItsEnd) {
  ByteBudget budget(100);
  {
    const auto reservation = budget.Reserve(60, "a test");
    ASSERT_THAT(reservation, IsOk());
    EXPECT_EQ(reservation->bytes(), 60);
    EXPECT_EQ(budget.used_bytes(), 60);
  }
  EXPECT_EQ(budget.used_bytes(), 0);
  EXPECT_EQ(budget.limit_bytes(), 100);
}

TEST(ByteBudgetTest, TheLastByteCanBeReservedAndNotOneMore) {
  ByteBudget budget(100);
  const auto first = budget.Reserve(99, "a test");
  const auto last = budget.Reserve(1, "a test");
  EXPECT_THAT(last, IsOk());
  EXPECT_THAT(budget.Reserve(1, "a test"),
              Fails(absl::StatusCode::kResourceExhausted, "a test"));
  EXPECT_THAT(budget.Reserve(0, "a test"), IsOk());
}

TEST(ByteBudgetTest, ARefusalNamesTheUseTheWantedAndTheFree) {
  ByteBudget budget(100);
  const auto held = budget.Reserve(70, "a test");
  const auto refused = budget.Reserve(31, "session \"s\"");
  EXPECT_THAT(refused, Fails(absl::StatusCode::kResourceExhausted,
                             "memory for session \"s\": wants 31 bytes, 30 of "
                             "100 are free"));
  const absl::optional<ErrorReason> reason = GetReason(refused.status());
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->reason, "RAM_BUDGET");
  EXPECT_THAT(reason->metadata, ElementsAre(Pair("wanted_bytes", "31"),
                                            Pair("free_bytes", "30")));
  EXPECT_EQ(budget.used_bytes(), 70);
}

TEST(ByteBudgetTest, AWishThatWouldOverflowIsRefused) {
  ByteBudget budget(100);
  const auto held = budget.Reserve(1, "a test");
  EXPECT_THAT(budget.Reserve(INT64_MAX, "a test"),
              Fails(absl::StatusCode::kResourceExhausted, "a test"));
}

TEST(ByteBudgetTest, MovingAReservationMovesTheRightToItsBytes) {
  ByteBudget budget(100);
  ByteBudget::Reservation kept;
  {
    auto made = budget.Reserve(40, "a test");
    ASSERT_THAT(made, IsOk());
    kept = *std::move(made);
  }
  EXPECT_EQ(kept.bytes(), 40);
  EXPECT_EQ(budget.used_bytes(), 40);

  kept = *budget.Reserve(25, "a test");
  EXPECT_EQ(budget.used_bytes(), 25);

  ByteBudget::Reservation& same = kept;
  kept = std::move(same);
  EXPECT_EQ(kept.bytes(), 25);
  EXPECT_EQ(budget.used_bytes(), 25);
}

TEST(ByteBudgetTest, ReleasingTwiceGivesBackOnce) {
  ByteBudget budget(100);
  auto held = budget.Reserve(10, "a test");
  auto released = budget.Reserve(40, "a test");
  ASSERT_THAT(released, IsOk());
  released->Release();
  released->Release();
  EXPECT_EQ(released->bytes(), 0);
  EXPECT_EQ(budget.used_bytes(), 10);
}

TEST(ByteBudgetTest, ThreadsNeverHoldMoreThanTheLimitTogether) {
  ByteBudget budget(10);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const auto reservation = budget.Reserve(4, "a test");
        EXPECT_LE(budget.used_bytes(), 10);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget.used_bytes(), 0);
}

}  // namespace
}  // namespace mneme
