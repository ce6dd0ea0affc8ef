// SPDX-License-Identifier: Apache-2.0
//
// A write that fails changes nothing: what is told, what is in memory and what
// is stored agree afterwards, and go on from there.
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/store/store_errors.h"
#include "tests/fault/stored_engine_fixture.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Calls = KvFaults::Calls;
using Space = KvStore::Space;

class StoredSessionFaultsTest : public StoredEngineTest {
 protected:
  static absl::Status Once() { return StoreUnavailable("once"); }
  void FailNextWrite() { faults_->Fail(Calls::kWrites, 1); }
  // An update whose write fails.
  void FailUpdate(const std::string& id) {
    FailNextWrite();
    ASSERT_THAT(Label(id, "lost"), HasReason("STORE_UNAVAILABLE"));
    faults_->Heal();
  }
  // The session is loaded, and again while the history of the load that the
  // failure ended is still computed, should it be.
  void FailUpdateDuringLoad() {
    Start();
    const std::string text(300000, 'x');
    ASSERT_THAT(Make("s"), IsOk());
    ASSERT_THAT(AppendAll(*engine_, "s", text, {60000}), IsOk());
    Crash();
    Start();
    faults_->HoldScans(Space::kJournal);
    Later<std::shared_ptr<SessionHold>> first;
    engine_->Load("s", "", first.done());
    ASSERT_TRUE(faults_->AwaitHeld());
    FailUpdate("s");
    faults_->Release();
    Eventually([this] { return engine_->GetSession("s")->position > 0; },
               absl::Seconds(1));
    for (int i = 0; i < 20; ++i) {
      Later<std::shared_ptr<SessionHold>> next;
      engine_->Load("s", "", next.done());
      Eventually([&] { return next.told(); }, absl::Milliseconds(10));
    }
    const absl::Status status = first.Await().status();
    EXPECT_TRUE(status.ok() || absl::IsUnavailable(status)) << status;
    const absl::StatusOr<SessionInfo> info = AwaitDescription("s");
    ASSERT_THAT(info.status(), IsOk());
    EXPECT_EQ(info->next_offset, 300000);
    EXPECT_EQ(info->position, 300001);
  }
};

// -- Updates -----------------------------------------------------------------

TEST_F(StoredSessionFaultsTest, AFailedUpdateLeavesAFoundSessionAsItWas) {
  Start();
  Create("s", std::string(300, 'x'));
  Crash();
  Start();
  const SessionInfo before = *engine_->GetSession("s");
  ASSERT_EQ(before.next_offset, 300);
  FailUpdate("s");
  const SessionInfo after = *engine_->GetSession("s");
  EXPECT_EQ(after.next_offset, 300);
  EXPECT_EQ(after.revision, before.revision);
  EXPECT_EQ(after.labels, before.labels);
}

TEST_F(StoredSessionFaultsTest, AnUpdateAfterAFailedOneKeepsTheHistory) {
  Start();
  const std::string text(300, 'x');
  const std::string stand = StandOf(text);
  Create("s", text);
  Crash();
  Start();
  FailUpdate("s");
  ASSERT_THAT(Label("s", "kept"), IsOk());
  EXPECT_EQ(Stand("s"), stand);
  Crash();
  Start();
  EXPECT_EQ(Stand("s"), stand);
  EXPECT_EQ(engine_->GetSession("s")->labels["k"], "kept");
}

TEST_F(StoredSessionFaultsTest, ASessionIsResetAfterAFailedWrite) {
  Start();
  Create("s", std::string(300, 'x'));
  FailUpdate("s");
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(Reset(*engine_, {.session = "s"}).status(), IsOk()) << i;
  }
  EXPECT_EQ(engine_->GetSession("s")->next_offset, 0);
}

TEST_F(StoredSessionFaultsTest, ASessionIsTakenBackAfterAFailedWrite) {
  Start();
  const std::string stand = StandOf(std::string(100, 'x'));
  Create("s", std::string(300, 'x'));
  FailUpdate("s");
  EXPECT_THAT(Rollback(*engine_, {.session = "s", .offset = 100}).status(),
              IsOk());
  EXPECT_EQ(Stand("s"), stand);
}

TEST_F(StoredSessionFaultsTest, AFailedUpdateIsNoDeletionToWhoDescribes) {
  Start();
  for (const char* id : {"a", "b", "c", "s"}) Create(id, "hello");
  const auto lag = [this] { return engine_->stats().durable_lag_bytes; };
  faults_->Hold(KvFaults::Any);
  Later<SessionInfo> before;
  engine_->UpdateSession(Labelled("a", "v"), before.done());
  ASSERT_TRUE(faults_->AwaitHeld());
  Later<SessionInfo> updated;
  engine_->UpdateSession(Labelled("s", "lost"), updated.done());
  // Both threads that wait for sessions to be free wait for these resets, which
  // the store takes behind the update: the description comes when that failed.
  Later<SessionInfo> resets[2];
  for (int i = 0; i < 2; ++i) {
    const int64_t queued = lag();
    engine_->ResetSession({.session = i == 0 ? "b" : "c"}, resets[i].done());
    ASSERT_TRUE(Eventually([&] { return lag() > queued; }));
  }
  Later<SessionInfo> described;
  engine_->DescribeSession("s", described.done());
  faults_->Refuse(PutsRecordOf(engine_->GetSession("s")->uid), Once(), 1);
  faults_->Release();
  EXPECT_THAT(before.Await().status(), IsOk());
  EXPECT_THAT(updated.Await(), HasReason("STORE_UNAVAILABLE"));
  const absl::StatusOr<SessionInfo> told = described.Await();
  EXPECT_TRUE(told.ok() || absl::IsUnavailable(told.status())) << told.status();
}

// In a process of its own, which does not survive a state that two loads share.
TEST_F(StoredSessionFaultsTest, AFailedUpdateDoesNotDisturbALoad) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        FailUpdateDuringLoad();
        _exit(HasFailure() ? 1 : 0);
      },
      testing::ExitedWithCode(0), "");
}

// -- Deletions ---------------------------------------------------------------

TEST_F(StoredSessionFaultsTest, ADeletionThatFailsChangesNothing) {
  Start();
  const std::string stand = StandOf("hello, world");
  Create("s", "hello");
  FailNextWrite();
  EXPECT_THAT(engine_->DeleteSession("s", ""), HasReason("STORE_UNAVAILABLE"));
  faults_->Heal();
  ASSERT_THAT(engine_->GetSession("s").status(), IsOk());
  ASSERT_THAT(Append("s", ", world"), IsOk());
  EXPECT_EQ(Stand("s"), stand);
  Crash();
  Start();
  EXPECT_EQ(Stand("s"), stand);
  EXPECT_THAT(engine_->DeleteSession("s", ""), IsOk());
}

TEST_F(StoredSessionFaultsTest, AfterADeletionThatFailedAnIdIsThereOnce) {
  Start();
  Create("s", "hello");
  FailNextWrite();
  EXPECT_THAT(engine_->DeleteSession("s", ""), HasReason("STORE_UNAVAILABLE"));
  faults_->Heal();
  const absl::Status made = Make("s");
  EXPECT_TRUE(made.ok() || absl::IsAlreadyExists(made)) << made;
  EXPECT_THAT(TryStart(), IsOk());
}

// -- Snapshots ---------------------------------------------------------------

TEST_F(StoredSessionFaultsTest, ASnapshotThatIsRefusedIsNotTriedOverAndOver) {
  EngineOptions options = Options();
  options.snapshot_interval_tokens = 64;
  Start(options);
  Create("quiet", "");
  faults_->Refuse(PutsBlob, StoreFull("no room"));
  Create("s", std::string(300, 'x'));
  ASSERT_TRUE(Eventually([this] { return faults_->refused() > 0; }));
  // Each of these takes its turn with the threads that write snapshots.
  for (int i = 0; i < 300; ++i)
    ASSERT_THAT(Describe(*engine_, "quiet"), IsOk());
  EXPECT_LT(faults_->refused(), 10);
}

TEST_F(StoredSessionFaultsTest, ADrainGivesUpOnSnapshotsThatAreRefused) {
  Start();
  constexpr int kSessions = 3;
  for (int i = 0; i < kSessions; ++i) {
    Create(absl::StrCat("s", i), std::string(30, 'x'));
  }
  // A slow refusal: the session before comes to rest again meanwhile.
  const auto slowly = [](const KvStore::Batch& batch) {
    if (PutsBlob(batch)) absl::SleepFor(absl::Milliseconds(20));
    return PutsBlob(batch);
  };
  faults_->Refuse(slowly, StoreFull("no room"));
  absl::Notification drained;
  std::thread drain([&] {
    engine_->Drain(absl::Now());
    drained.Notify();
  });
  EXPECT_TRUE(drained.WaitForNotificationWithTimeout(kPatience));
  EXPECT_LE(faults_->refused(), 2 * kSessions);
  faults_->Heal();
  drain.join();
}

TEST_F(StoredSessionFaultsTest, ADrainEndsWhileADueSnapshotIsRefused) {
  EngineOptions options = Options();
  options.snapshot_interval_tokens = 64;
  Start(options);
  for (const char* id : {"a", "b"}) Create(id, std::string(30, 'x'));
  faults_->Refuse(PutsBlob, StoreFull("no room"));
  Create("s", std::string(300, 'x'));
  absl::Notification drained;
  std::thread drain([&] {
    engine_->Drain(absl::Now());
    drained.Notify();
  });
  EXPECT_TRUE(drained.WaitForNotificationWithTimeout(kPatience));
  faults_->Heal();
  drain.join();
}

TEST_F(StoredSessionFaultsTest, WhatASnapshotThatFailedWroteIsDropped) {
  Start();
  Create("s", "hello");
  faults_->Refuse(PutsRecord, Once(), 1);
  EXPECT_THAT(KeepSnapshot(*engine_, {.session = "s", .name = "p"}),
              HasReason("STORE_UNAVAILABLE"));
  // Until the failure is dealt with, nothing else is written.
  ASSERT_TRUE(Eventually([this] { return Label("s", "v").ok(); }));
  EXPECT_TRUE(Eventually([this] { return Entries(Space::kBlobs) == 0; }))
      << Entries(Space::kBlobs) << " pieces are left";
}

TEST_F(StoredSessionFaultsTest, NoSnapshotThatFailedOutlivesItsSession) {
  Start();
  Create("s", "hello");
  faults_->Refuse(PutsRecord, Once(), 1);
  EXPECT_THAT(KeepSnapshot(*engine_, {.session = "s", .name = "p"}),
              HasReason("STORE_UNAVAILABLE"));
  ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
  EXPECT_TRUE(Eventually([this] { return Entries(Space::kBlobs) == 0; }))
      << Entries(Space::kBlobs) << " pieces are left";
}

// -- Epochs and offsets that were told ---------------------------------------

TEST_F(StoredSessionFaultsTest, AnEpochThatWasToldIsNeverTakenBack) {
  Start();
  Create("s", "hello");
  ProgressWaiter waiter;
  auto first = engine_->OpenAppend({.session = "s"}, &waiter);
  ASSERT_THAT(first, IsOk());
  const int64_t old = (*first)->opened().epoch;
  ProgressWaiter second_waiter;
  faults_->Hold(KvFaults::Any);
  auto second =
      engine_->OpenAppend({.session = "s", .takeover = true}, &second_waiter);
  ASSERT_THAT(second, IsOk());
  const int64_t told = (*second)->opened().epoch;
  EXPECT_GT(told, old);
  ASSERT_TRUE(faults_->AwaitHeld());  // the new epoch, on its way to the store
  ASSERT_THAT((*second)->Write({.offset = 5, .payload = std::string("world")}),
              IsOk());
  faults_->Fail(Calls::kWrites, 2);  // that of "world"
  faults_->Release();
  ASSERT_TRUE(Eventually([&] { return !(*second)->status().ok(); }));
  first->reset();
  second->reset();
  EXPECT_GE(engine_->GetSession("s")->epoch, told);
  ProgressWaiter late;
  EXPECT_THAT(
      engine_->OpenAppend({.session = "s", .expected_epoch = old}, &late),
      HasReason("EPOCH_FENCED"));
  Crash();
  Start();
  EXPECT_GE(engine_->GetSession("s")->epoch, told);
}

TEST_F(StoredSessionFaultsTest, WhatWasAcknowledgedWithoutADiskIsKept) {
  durable_ = false;
  Start();
  Create("s");
  ProgressWaiter waiter;
  auto stream = engine_->OpenAppend({.session = "s"}, &waiter);
  ASSERT_THAT(stream, IsOk());
  ASSERT_EQ((*stream)->opened().durability, Durability::kNone);
  faults_->Hold(KvFaults::Any);
  ASSERT_THAT((*stream)->Write({.offset = 0, .payload = std::string("hello")}),
              IsOk());
  ASSERT_TRUE(faults_->AwaitHeld());
  const auto told = [&] { return (*stream)->progress().absorbed_offset; };
  // It may also be told when it is stored.
  Eventually([&] { return told() == 5; }, absl::Seconds(1));
  const int64_t acknowledged = told();
  faults_->Refuse(KvFaults::Any, StoreFull("the store is full"), 1);
  faults_->Release();
  AwaitStored();
  EXPECT_GE(engine_->GetSession("s")->next_offset, acknowledged);
}

// -- Models that are not loaded ----------------------------------------------

// Of a session whose model is not there: what is answered is what is done.
TEST_F(StoredSessionFaultsTest, AResetThatIsRefusedForItsModelChangesNothing) {
  Start();
  Create("s", "hello");
  ASSERT_THAT(TryStart(Options(), Models::kNone), IsOk());
  const absl::Status status = Reset(*engine_, {.session = "s"}).status();
  const SessionInfo info = *engine_->GetSession("s");
  EXPECT_EQ(info.epoch, status.ok() ? 2 : 1) << status;
  EXPECT_EQ(info.next_offset, status.ok() ? 0 : 5) << status;
}

TEST_F(StoredSessionFaultsTest,
       ARollbackThatIsRefusedForItsModelChangesNothing) {
  Start();
  Create("s", "hello");
  ASSERT_THAT(TryStart(Options(), Models::kNone), IsOk());
  const absl::Status status =
      Rollback(*engine_, {.session = "s", .offset = 3}).status();
  const SessionInfo info = *engine_->GetSession("s");
  EXPECT_EQ(info.epoch, status.ok() ? 2 : 1) << status;
  EXPECT_EQ(info.next_offset, status.ok() ? 3 : 5) << status;
}

}  // namespace
}  // namespace mneme
