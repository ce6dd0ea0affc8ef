// SPDX-License-Identifier: Apache-2.0
//
// The life of a session: made, listed, updated, emptied, expired and deleted;
// the memory that it takes, and draining.
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "engine/engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/engine_fixture.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using absl::StatusCode;

TEST_F(EngineTest, ASessionBeginsWithItsBosAndNoOffset) {
  Create("s");
  const SessionInfo info = *Describe(*engine_, "s");
  EXPECT_EQ(info.position, 1);
  EXPECT_EQ(info.pending_tokens, 1);
  EXPECT_EQ(info.next_offset, 0);
  EXPECT_EQ(info.state_digest.size(), 64u);
  // SHA-256 of nothing.
  EXPECT_EQ(info.history_digest.substr(0, 16), "e3b0c44298fc1c14");
}

TEST_F(EngineTest, BadIdsLabelsModelsAndUnitsAreNamed) {
  EXPECT_THAT(engine_->CreateSession({.id = "a b", .model = "tiny"}),
              Fails(StatusCode::kInvalidArgument, "a b"));
  EXPECT_THAT(
      engine_->CreateSession({.id = std::string(129, 'a'), .model = "tiny"}),
      Fails(StatusCode::kInvalidArgument, "session_id"));
  EXPECT_THAT(engine_->CreateSession({.id = "a", .model = "none"}),
              Fails(StatusCode::kNotFound, "none"));
  EXPECT_THAT(engine_->CreateSession(
                  {.id = "a", .model = "tiny", .labels = {{"", "x"}}}),
              Fails(StatusCode::kInvalidArgument, "label"));
  Create("a");
  EXPECT_THAT(engine_->CreateSession({.id = "a", .model = "tiny"}),
              Fails(StatusCode::kAlreadyExists, "a"));
}

TEST_F(EngineTest, MemoryIsPromisedOnceAndGivenBack) {
  const int64_t one = [&] {
    Create("p");
    return engine_->stats().session_memory_used_bytes;
  }();
  const auto await_used = [&](int64_t bytes) {
    // A pass may still hold what was given up.
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (engine_->stats().session_memory_used_bytes != bytes &&
           absl::Now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_EQ(engine_->stats().session_memory_used_bytes, bytes);
  };
  // Two sessions, and a stream for each but for one byte.
  StartEngine(
      {.threads = 1, .session_memory_bytes = 2 * one + 2 * kStreamBytes - 1});
  Create("a");
  Create("b");
  {
    ProgressWaiter waiter;
    const auto writer = engine_->OpenAppend({.session = "a"}, &waiter);
    ASSERT_THAT(writer, IsOk());
    EXPECT_THAT(engine_->OpenAppend({.session = "b"}, &waiter),
                HasReason("RAM_BUDGET"));
    EXPECT_THAT(ScoreAll(*engine_, {.session = "b"}, "abc"),
                HasReason("RAM_BUDGET"));
  }
  EXPECT_THAT(AppendAll(*engine_, "b", "abc"), IsOk());

  ASSERT_THAT(engine_->DeleteSession("a", ""), IsOk());
  await_used(one);
  ASSERT_THAT(engine_->DeleteSession("b", ""), IsOk());
  await_used(0);
}

TEST_F(EngineTest, AHoldKeepsTheMemoryForItsStream) {
  const int64_t stream = engine_->GetModel("tiny")->stream_bytes;
  const auto used = [&] { return engine_->stats().session_memory_used_bytes; };
  Create("p");
  const int64_t one = used();
  // Two sessions, and one stream.
  StartEngine({.threads = 1, .session_memory_bytes = 2 * one + stream});
  Create("a");
  Create("b");
  absl::Notification loaded;
  std::shared_ptr<SessionHold> hold;
  engine_->Load("a", "",
                [&](absl::StatusOr<std::shared_ptr<SessionHold>> held) {
                  ASSERT_THAT(held, IsOk());
                  hold = *std::move(held);
                  loaded.Notify();
                });
  loaded.WaitForNotification();
  ProgressWaiter waiter;
  EXPECT_THAT(engine_->OpenAppend({.session = "b"}, &waiter),
              HasReason("RAM_BUDGET"));
  {
    const auto writer =
        engine_->OpenAppend({.session = "a", .hold = hold}, &waiter);
    EXPECT_THAT(writer, IsOk());
    EXPECT_THAT(engine_->OpenAppend({.session = "a", .hold = hold}, &waiter),
                HasReason("RAM_BUDGET"));
  }
  hold.reset();
  EXPECT_THAT(AppendAll(*engine_, "b", "abc"), IsOk());
}

TEST_F(EngineTest, WhoIsIdleLeavesMemoryForWhoIsUsed) {
  const int64_t one = [&] {
    Create("p");
    return engine_->stats().session_memory_used_bytes;
  }();
  StartEngine(
      {.threads = 1, .session_memory_bytes = 2 * one + one / 2 + kStreamBytes});
  const auto tier = [&](const std::string& id) {
    return engine_->GetSession(id)->tier;
  };
  Create("a");
  Create("b");
  ASSERT_THAT(AppendAll(*engine_, "a", "the first one's words"), IsOk());
  const SessionInfo a = *Describe(*engine_, "a");
  ASSERT_THAT(AppendAll(*engine_, "b", "another's"), IsOk());
  Create("c");
  ASSERT_THAT(AppendAll(*engine_, "c", "a third's"), IsOk());
  EXPECT_EQ(tier("a"), StateTier::kCold);
  EXPECT_EQ(tier("c"), StateTier::kHot);
  // Nothing is lost, and it can be described as it is.
  const SessionInfo cold = *Describe(*engine_, "a");
  EXPECT_EQ(cold.tier, StateTier::kCold);
  EXPECT_EQ(cold.state_digest, a.state_digest);
  EXPECT_EQ(cold.history_digest, a.history_digest);
  EXPECT_EQ(cold.position, a.position);
  ProgressWaiter waiter;
  const auto writer = *engine_->OpenAppend({.session = "a"}, &waiter);
  EXPECT_EQ(writer->opened().load.tier, StateTier::kCold);
  EXPECT_EQ(writer->opened().next_offset, a.next_offset);
  EXPECT_EQ(tier("a"), StateTier::kHot);
  EXPECT_EQ(Describe(*engine_, "a")->state_digest, a.state_digest);
}

TEST_F(EngineTest, UpdateChangesLabelsAndLimits) {
  Create("s");
  const SessionInfo before = *engine_->GetSession("s");
  EXPECT_EQ(before.expire_time, absl::InfiniteFuture());
  const auto updated = engine_->UpdateSession(
      {.session = "s",
       .revision = before.revision,
       .labels = std::map<std::string, std::string>{{"user", "7"}},
       .ttl = absl::Hours(1)});
  ASSERT_THAT(updated, IsOk());
  EXPECT_EQ(updated->labels.at("user"), "7");
  EXPECT_EQ(updated->expire_time, updated->update_time + absl::Hours(1));
  EXPECT_EQ(updated->epoch, before.epoch);
  EXPECT_THAT(
      engine_->UpdateSession({.session = "s", .revision = before.revision}),
      HasReason("ETAG_MISMATCH"));
  EXPECT_THAT(
      engine_->UpdateSession({.session = "s", .ttl = absl::Milliseconds(5)}),
      Fails(StatusCode::kInvalidArgument, "ttl"));
  EXPECT_THAT(engine_->UpdateSession({.session = "none"}),
              Fails(StatusCode::kNotFound, "none"));
  EXPECT_EQ(engine_->ListSessions("", 9, {.labels = {{"user", "7"}}}).size(),
            1u);
  EXPECT_TRUE(
      engine_->ListSessions("", 9, {.labels = {{"user", "8"}}}).empty());
  EXPECT_TRUE(engine_->ListSessions("", 9, {.model = "none"}).empty());
}

TEST_F(EngineTest, AnIdleSessionExpiresAndIsRememberedAsExpired) {
  ASSERT_THAT(engine_->CreateSession(
                  {.id = "idle", .model = "tiny", .ttl = absl::Seconds(1)}),
              IsOk());
  ASSERT_THAT(engine_->CreateSession(
                  {.id = "used", .model = "tiny", .ttl = absl::Seconds(1)}),
              IsOk());
  ProgressWaiter waiter;
  const auto writer = *engine_->OpenAppend({.session = "used"}, &waiter);
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (engine_->GetSession("idle").ok() && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_THAT(engine_->GetSession("idle"), HasReason("SESSION_EXPIRED"));
  EXPECT_THAT(engine_->GetSession("used"), IsOk());
  Create("idle");  // the id is free
}

// -- Committing a segment early ----------------------------------------------

TEST_F(EngineTest, AMemoryWithoutSegmentsHasNoneToCommit) {
  Create("s");
  EXPECT_THAT(CommitSegment(*engine_, "s"), HasReason("NOT_SUPPORTED"));
  EXPECT_THAT(CommitSegment(*engine_, "s"),
              Fails(absl::StatusCode::kUnimplemented, "ttt_linear"));
  EXPECT_THAT(CommitSegment(*engine_, "nobody"),
              Fails(absl::StatusCode::kNotFound, "nobody"));
}

class SegmentCommitTest : public EngineTest {
 protected:
  void SetUp() override {
    ModelConfig config = *PresetConfig("infini-tiny");
    config.infini.segment = 100;
    ASSERT_THAT(WriteRandomModel(config, 1, model_dir_.path()), IsOk());
    StartEngine({.threads = 2});
  }
};

TEST_F(SegmentCommitTest, ItsTokensAreCountedOnce) {
  Create("s");
  ASSERT_THAT(AppendAll(*engine_, "s", std::string(129, 'a')), IsOk());
  absl::StatusOr<SegmentCommit> commit = CommitSegment(*engine_, "s");
  ASSERT_THAT(commit, IsOk());
  EXPECT_EQ(commit->position, 130);  // with the token that begins a history
  EXPECT_EQ(commit->segment_tokens, 30);
  commit = CommitSegment(*engine_, "s");
  ASSERT_THAT(commit, IsOk());
  EXPECT_EQ(commit->position, 130);
  EXPECT_EQ(commit->segment_tokens, 0);
  ASSERT_THAT(AppendAll(*engine_, "s", std::string(100, 'b')), IsOk());
  EXPECT_EQ(CommitSegment(*engine_, "s")->segment_tokens, 0);
}

TEST_F(SegmentCommitTest, WhatFollowsDependsOnWhereItWas) {
  const std::string text = "What was read before, and what comes behind it.";
  const auto read = [&](const std::string& id, size_t commit_at,
                        const std::vector<int64_t>& sizes) {
    Create(id);
    EXPECT_THAT(AppendAll(*engine_, id, text.substr(0, commit_at), sizes),
                IsOk());
    if (commit_at < text.size()) {
      EXPECT_THAT(CommitSegment(*engine_, id), IsOk());
      EXPECT_THAT(AppendAll(*engine_, id, text.substr(commit_at), sizes),
                  IsOk());
    }
    return Describe(*engine_, id)->state_digest;
  };
  const std::string wanted = read("a", 20, {});
  EXPECT_EQ(read("b", 20, {1, 3}), wanted);
  EXPECT_NE(read("c", 21, {}), wanted);
  EXPECT_NE(read("d", text.size(), {}), wanted);
}

TEST_F(SegmentCommitTest, AForkHasItThoughThereIsNoText) {
  Create("s");
  const std::string before = Describe(*engine_, "s")->state_digest;
  ASSERT_THAT(CommitSegment(*engine_, "s"), IsOk());
  const std::string after = Describe(*engine_, "s")->state_digest;
  EXPECT_NE(after, before);
  ASSERT_THAT(Fork(*engine_, {.source = "s", .id = "f"}), IsOk());
  EXPECT_EQ(Describe(*engine_, "f")->state_digest, after);
}

TEST_F(SegmentCommitTest, ItIsRefusedWhileAGenerationWrites) {
  Create("s");
  ASSERT_THAT(AppendAll(*engine_, "s", "abc"), IsOk());
  ProgressWaiter waiter;
  // Unread, it goes on for as long as it may.
  const auto generation = *engine_->Generate(
      {.session = "s", .max_tokens = 100000, .ignore_eos = true}, &waiter);
  EXPECT_THAT(CommitSegment(*engine_, "s"), HasReason("SESSION_BUSY"));
}

TEST_F(EngineTest, ResetEmptiesASession) {
  Create("s");
  Create("fresh");
  ASSERT_THAT(AppendAll(*engine_, "s", std::string(300, 'a')), IsOk());
  const auto reset = [this](bool takeover) {
    return Reset(*engine_, {.session = "s", .takeover = takeover});
  };
  ProgressWaiter waiter;
  const auto writer = *engine_->OpenAppend({.session = "s"}, &waiter);
  const auto busy = reset(false);
  ASSERT_THAT(busy, HasReason("SESSION_BUSY"));
  EXPECT_THAT(GetReason(busy.status())->metadata,
              testing::ElementsAre(testing::Pair("busy", "APPENDING")));
  const auto info = reset(true);
  ASSERT_THAT(info, IsOk());
  EXPECT_EQ(info->epoch, 2);
  EXPECT_EQ(info->next_offset, 0);
  EXPECT_THAT(writer->Write({.offset = 300, .payload = "x"}),
              HasReason("TAKEN_OVER"));
  EXPECT_EQ(Describe(*engine_, "s")->state_digest,
            Describe(*engine_, "fresh")->state_digest);
  ASSERT_THAT(AppendAll(*engine_, "s", "abc"), IsOk());
  ASSERT_THAT(AppendAll(*engine_, "fresh", "abc"), IsOk());
  EXPECT_EQ(Describe(*engine_, "s")->state_digest,
            Describe(*engine_, "fresh")->state_digest);
}

TEST_F(EngineTest, ADeletedSessionIsGoneWithItsStreamsAndItsIdIsFree) {
  Create("s");
  const std::string uid = engine_->GetSession("s")->uid;
  ProgressWaiter writer_waiter;
  ProgressWaiter waiter;
  const auto writer = *engine_->OpenAppend({.session = "s"}, &writer_waiter);
  const auto generation = *engine_->Generate(
      {.session = "s", .max_tokens = 100'000, .ignore_eos = true}, &waiter);
  EXPECT_THAT(engine_->DeleteSession("s", "other"), HasReason("EPOCH_FENCED"));
  ASSERT_THAT(engine_->DeleteSession("s", uid), IsOk());
  EXPECT_THAT(engine_->GetSession("s"), Fails(StatusCode::kNotFound, "s"));
  EXPECT_THAT(writer->Write({.offset = 0, .payload = "x"}),
              Fails(StatusCode::kNotFound, "deleted"));
  while (true) {
    const auto event = generation->Poll();
    if (!event.has_value()) {
      ASSERT_TRUE(waiter.Wait());
    } else if (event->kind == GenerateEvent::Kind::kFinished) {
      EXPECT_THAT(event->status, Fails(StatusCode::kNotFound, "deleted"));
      break;
    }
  }
  Create("s");
  EXPECT_NE(engine_->GetSession("s")->uid, uid);
  EXPECT_EQ(engine_->GetSession("s")->position, 1);
}

TEST_F(EngineTest, DeletingEndsWorkOnCopiesToo) {
  Create("s");
  ProgressWaiter waiter;
  const auto generation = *engine_->Generate({.session = "s",
                                              .max_tokens = 100'000'000,
                                              .ignore_eos = true,
                                              .commit = false},
                                             &waiter);
  ASSERT_TRUE(waiter.Wait());
  ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
  while (true) {
    const auto event = generation->Poll();
    if (!event.has_value()) {
      ASSERT_TRUE(waiter.Wait());
    } else if (event->kind == GenerateEvent::Kind::kFinished) {
      EXPECT_THAT(event->status, Fails(StatusCode::kNotFound, "deleted"));
      break;
    }
  }
}

TEST_F(EngineTest, ListingGoesOnWhereItStopped) {
  for (const char* id : {"a", "b", "c", "d"}) Create(id);
  EXPECT_EQ(engine_->ListSessions("", 3, {}).size(), 3u);
  const auto rest = engine_->ListSessions("c", 3, {});
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].id, "d");
}

TEST_F(EngineTest, DrainingRefusesWhatIsNewAndCutsOffWhatIsLate) {
  Create("s");
  ProgressWaiter waiter;
  const auto generation = *engine_->Generate(
      {.session = "s", .max_tokens = 1'000'000, .ignore_eos = true}, &waiter);
  while (true) {  // until it is at work
    const auto event = generation->Poll();
    if (!event.has_value()) {
      ASSERT_TRUE(waiter.Wait());
    } else if (event->kind == GenerateEvent::Kind::kOutput) {
      break;
    }
  }
  EXPECT_EQ(engine_->Drain(absl::InfinitePast()), 1);
  EXPECT_THAT(engine_->CreateSession({.id = "t", .model = "tiny"}),
              HasReason("DRAINING"));
  EXPECT_THAT(GenerateAll(*engine_, {.session = "s"}), HasReason("DRAINING"));
  while (true) {
    const auto event = generation->Poll();
    if (!event.has_value()) {
      ASSERT_TRUE(waiter.Wait());
    } else if (event->kind == GenerateEvent::Kind::kFinished) {
      EXPECT_EQ(event->reason, FinishReason::kCancelled);
      break;
    }
  }
}

}  // namespace
}  // namespace mneme
