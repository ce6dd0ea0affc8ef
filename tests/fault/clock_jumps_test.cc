// SPDX-License-Identifier: Apache-2.0
//
// The wall clock jumps by days and the monotonic one goes on: nothing hangs,
// and what is remembered for a day is remembered for a day that passed.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fault/engine_rig.h"
#include "tests/fault/engine_script.h"
#include "tests/support/engine_driver.h"
#include "tests/support/moved_clock.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kHour = 3600;

class ClockJumpsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(rig_.MakeModels(), IsOk());
    ASSERT_THAT(Open(), IsOk());
  }
  void TearDown() override { engine_.reset(); }

  absl::Status Open() {
    engine_.reset();
    auto engine =
        rig_.Start(OpenRocksDbStore(dir_.File("store"), {.clock = &clock_}, {}),
                   {.clock = &clock_});
    if (!engine.ok()) return engine.status();
    engine_ = *std::move(engine);
    return absl::OkStatus();
  }
  absl::Status Create(const std::string& id,
                      absl::Duration ttl = absl::ZeroDuration()) {
    return Outcome<SessionInfo>([&](const auto& done) {
             engine_->CreateSession(
                 {.id = id,
                  .model = "ttt",
                  .ttl = ttl,
                  .request = {.id = "make-" + id,
                              .digest = "d",
                              .reply =
                                  [](const SessionInfo& info) {
                                    return info.id;
                                  }}},
                 done);
           })
        .status();
  }
  // What the next process finds remembered.
  std::vector<std::string> Remembered() {
    EXPECT_THAT(Open(), IsOk());
    std::vector<std::string> replies;
    for (const AnsweredRequest& request : engine_->TakeAnsweredRequests()) {
      replies.push_back(request.reply);
    }
    return replies;
  }

  EngineRig rig_;
  TempDir dir_;
  MovedClock clock_;
  std::unique_ptr<EngineImpl> engine_;
};

TEST_F(ClockJumpsTest, RequestsAreRememberedForADayThatPassed) {
  ASSERT_THAT(Create("a"), IsOk());
  clock_.Jump(24 * 30 * kHour);
  ASSERT_THAT(Create("b"), IsOk());
  clock_.Jump(-24 * 60 * kHour);
  ASSERT_THAT(Create("c"), IsOk());
  EXPECT_THAT(Remembered(), ElementsAre("a", "b", "c"));
  clock_.Move(25 * kHour);
  ASSERT_THAT(Create("d"), IsOk());
  EXPECT_THAT(Remembered(), ElementsAre("d"));
}

TEST_F(ClockJumpsTest, ASessionLivesForTheTimeThatPassed) {
  ASSERT_THAT(Create("s", absl::Hours(10)), IsOk());
  for (const int hours : {24 * 30, -24 * 60}) {
    clock_.Jump(hours * kHour);
    absl::SleepFor(absl::Seconds(2));  // a tick at least
    EXPECT_THAT(engine_->GetSession("s"), IsOk()) << hours;
  }
  clock_.Move(11 * kHour);
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (engine_->GetSession("s").ok() && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_THAT(engine_->GetSession("s"), HasReason("SESSION_EXPIRED"));
}

TEST_F(ClockJumpsTest, ASessionGoesOnAndItsReplyIsKept) {
  GenerateOptions options;
  options.session = "s";
  options.prompt = "prompt";
  options.max_tokens = 20;
  options.sampling.seed = 5;
  options.request_id = "r";
  options.request_digest = "d";
  ASSERT_THAT(Create("s"), IsOk());
  const absl::StatusOr<Generated> first = GenerateAll(*engine_, options);
  ASSERT_THAT(first, IsOk());
  const int64_t bytes = first->finished.next_offset;
  for (const int hours : {24 * 10, -24 * 20, 24 * 10}) {
    clock_.Jump(hours * kHour);
    const absl::StatusOr<Generated> again = GenerateAll(*engine_, options);
    ASSERT_THAT(again, IsOk());
    EXPECT_TRUE(again->started.attached);
    EXPECT_EQ(again->tokens, first->tokens);
    ASSERT_THAT(Open(), IsOk());
    EXPECT_EQ(engine_->GetSession("s")->durable_offset, bytes);
    const absl::StatusOr<Generated> stored = GenerateAll(*engine_, options);
    ASSERT_THAT(stored, IsOk());
    EXPECT_EQ(stored->tokens, first->tokens);
  }
  ASSERT_THAT(AppendAll(*engine_, "s", std::string(300, 'a'), {50}), IsOk());
  clock_.Jump(-24 * 5 * kHour);
  ASSERT_THAT(Outcome<SessionInfo>([&](const auto& done) {
                engine_->RollbackSession({.session = "s", .offset = bytes},
                                         done);
              }),
              IsOk());
  EXPECT_THAT(AppendAll(*engine_, "s", std::string("b")), IsOk());
  EXPECT_EQ(engine_->GetSession("s")->next_offset, bytes + 1);
}

}  // namespace
}  // namespace mneme
