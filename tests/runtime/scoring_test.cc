// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "engine/engine.h"
#include "engine/runtime/streams.h"
#include "engine/tools/presets.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/moved_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

TEST(ScoringTest, AReaderThatTakesNothingDoesNotHoldTheSessionForEver) {
  TempDir model_dir;
  ASSERT_THAT(
      WriteRandomModel(*PresetConfig("ttt-linear-tiny"), 1, model_dir.path()),
      IsOk());
  MovedClock clock;
  const auto engine = *Engine::Create({.threads = 1, .clock = &clock});
  ASSERT_THAT(engine->LoadModel("m", model_dir.path()), IsOk());
  ASSERT_THAT(engine->CreateSession({.id = "s", .model = "m"}), IsOk());
  ProgressWaiter waiter;
  const auto scoring =
      *engine->Score({.session = "s", .commit = true}, &waiter);
  // Far more than the events that wait for a reader can say.
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  for (int i = 0; i < 20; ++i) {
    while (*scoring->Write(std::string(1000, 'x')) == Offer::kLater) {
      ASSERT_LT(absl::Now(), deadline);
      if (engine->GetSession("s")->position > 64 * 60) break;
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  while (engine->GetSession("s")->activity != SessionActivity::kIdle) {
    ASSERT_LT(absl::Now(), deadline);
    clock.Move(61);
    absl::SleepFor(absl::Milliseconds(100));
  }
  absl::optional<ScoreEvent> event;
  while ((event = scoring->Poll()).has_value() &&
         event->kind != ScoreEvent::Kind::kFinished) {
  }
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->status.code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(event->status, HasReason("SLOW_READER"));
}

TEST(ScoringTest, TheEndSaysWhereTheHistoryStands) {
  TempDir model_dir;
  ASSERT_THAT(
      WriteRandomModel(*PresetConfig("ttt-linear-tiny"), 1, model_dir.path()),
      IsOk());
  const auto engine = *Engine::Create({.threads = 1});
  ASSERT_THAT(engine->LoadModel("m", model_dir.path()), IsOk());
  ASSERT_THAT(engine->CreateSession({.id = "s", .model = "m"}), IsOk());
  ASSERT_THAT(AppendAll(*engine, "s", std::string(100, 'x')), IsOk());
  const std::string text(70, 'y');
  const auto read = ScoreAll(*engine, {.session = "s"}, text);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->finished.next_offset, 100);
  EXPECT_EQ(read->finished.position, 101);  // and the token that begins it
  const auto kept = ScoreAll(*engine, {.session = "s", .commit = true}, text);
  ASSERT_THAT(kept, IsOk());
  EXPECT_EQ(kept->finished.next_offset, 170);
  EXPECT_EQ(kept->finished.position, 171);
}

}  // namespace
}  // namespace mneme
