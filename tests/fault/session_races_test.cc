// SPDX-License-Identifier: Apache-2.0
//
// What is done to a session while something else is done to it: the store's
// calls are held where the two meet.
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "engine/base/clock.h"
#include "tests/fault/stored_engine_fixture.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Space = KvStore::Space;

// The machine's clock, which on a thread that asks for it does something else
// before it tells the time.
class InterposedClock final : public Clock {
 public:
  absl::Time Now() const override {
    if (std::this_thread::get_id() == thread_.load()) {
      thread_ = std::thread::id();
      interposed_();
    }
    return Real()->Now();
  }
  absl::Duration Monotonic() const override { return Real()->Monotonic(); }

  // The next Now of this thread calls `work` first.
  void Interpose(std::function<void()> work) {
    interposed_ = std::move(work);
    thread_ = std::this_thread::get_id();
  }

 private:
  std::function<void()> interposed_;
  mutable std::atomic<std::thread::id> thread_ = std::thread::id();
};

class SessionRacesTest : public StoredEngineTest {
 protected:
  Later<SessionInfo> StartReset(const std::string& id) {
    Later<SessionInfo> reset;
    engine_->ResetSession({.session = id}, reset.done());
    return reset;
  }
  // Deletes "s" while a reset of it waits for the store.
  void DeleteDuringReset() {
    faults_->Hold(KvFaults::Any);
    const Later<SessionInfo> reset = StartReset("s");
    ASSERT_TRUE(faults_->AwaitHeld());
    const Later<SessionInfo> deleted = Delete("s");
    faults_->Release();
    EXPECT_THAT(deleted.Await(), IsOk());
    EXPECT_FALSE(absl::IsDeadlineExceeded(reset.Await().status()));
    AwaitStored();
  }
  // Labels "s" while a reset of it waits in the first write that `held` picks:
  // both are kept.
  void LabelDuringReset(KvFaults::Picks held) {
    Start();
    Create("s", std::string(30, 'x'));
    faults_->Hold(std::move(held));
    const Later<SessionInfo> reset = StartReset("s");
    ASSERT_TRUE(faults_->AwaitHeld());
    Later<SessionInfo> updated;
    engine_->UpdateSession(Labelled("s", "v"), updated.done());
    faults_->Release();
    EXPECT_THAT(updated.Await(), IsOk());
    EXPECT_THAT(reset.Await(), IsOk());
    EXPECT_EQ(engine_->GetSession("s")->labels["k"], "v");
    EXPECT_EQ(engine_->GetSession("s")->epoch, 2);
    Crash();
    Start();
    EXPECT_EQ(engine_->GetSession("s")->labels["k"], "v");
    EXPECT_EQ(engine_->GetSession("s")->epoch, 2);
    EXPECT_EQ(engine_->GetSession("s")->next_offset, 0);
  }
};

// -- Deletions ---------------------------------------------------------------

TEST_F(SessionRacesTest, ASessionDeletedDuringItsResetStaysGone) {
  Start();
  Create("s", std::string(300, 'x'));
  DeleteDuringReset();
  EXPECT_THAT(engine_->GetSession("s"), Fails(StatusCode::kNotFound, "s"));
  Crash();
  Start();
  EXPECT_THAT(engine_->GetSession("s"), Fails(StatusCode::kNotFound, "s"));
  EXPECT_EQ(Entries(Space::kJournal), 0);
}

TEST_F(SessionRacesTest, TheIdOfASessionDeletedDuringItsResetIsFree) {
  Start();
  Create("s", "");
  DeleteDuringReset();
  Create("s", "hello");
  const std::string stand = Stand("s");
  ASSERT_THAT(TryStart(), IsOk());
  EXPECT_EQ(Stand("s"), stand);
}

TEST_F(SessionRacesTest, AGenerationHearsItsEndThoughItsSessionIsDeleted) {
  Start();
  Create("s", "hello");
  faults_->Hold(JournalsEnd);
  ProgressWaiter waiter;
  const auto generation =
      engine_->Generate({.session = "s", .max_tokens = 3}, &waiter);
  ASSERT_THAT(generation, IsOk());
  ASSERT_TRUE(faults_->AwaitHeld());
  const Later<SessionInfo> deleted = Delete("s");
  faults_->Release();
  EXPECT_THAT(deleted.Await(), IsOk());
  EXPECT_TRUE(Eventually([&] {
    const absl::optional<GenerateEvent> event = (*generation)->Poll();
    return event.has_value() && event->kind == GenerateEvent::Kind::kFinished;
  }));
}

TEST_F(SessionRacesTest, AWatchOpenedDuringADeletionEndsOrIsRefused) {
  InterposedClock clock;
  EngineOptions options = Options();
  options.clock = &clock;
  Start(options);
  Create("s", "");
  Later<SessionInfo> deleted;
  std::thread deleting;
  clock.Interpose([&] {
    deleting = std::thread([&] {
      DeleteOptions of_it;
      of_it.session = "s";
      engine_->DeleteSession(of_it, deleted.done());
    });
    // It comes between, unless the one shuts out the other.
    Eventually([&] { return deleted.told(); }, absl::Seconds(1));
  });
  ProgressWaiter waiter;
  {
    const auto watch = engine_->WatchSession("s", &waiter);
    clock.Interpose([] {});
    if (!deleting.joinable()) {  // it asked for no time
      deleting = std::thread([&] {
        DeleteOptions of_it;
        of_it.session = "s";
        engine_->DeleteSession(of_it, deleted.done());
      });
    }
    deleting.join();
    EXPECT_THAT(deleted.Await(), IsOk());
    if (watch.ok()) {
      EXPECT_TRUE(Eventually([&] {
        (*watch)->Poll();
        return (*watch)->ended();
      })) << "it waits for ever";
    } else {
      EXPECT_THAT(watch, Fails(StatusCode::kNotFound, "s"));
    }
  }
  Stop();  // before its clock
}

// -- Updates -----------------------------------------------------------------

TEST_F(SessionRacesTest, AnUpdateBeforeAResetIsWrittenIsKept) {
  LabelDuringReset(KvFaults::Any);
}

TEST_F(SessionRacesTest, AnUpdateWhileAResetIsWrittenIsKept) {
  LabelDuringReset(PutsRecord);
}

TEST_F(SessionRacesTest, TwoUpdatesDuringARollbackAreBothKept) {
  Start();
  const std::string stand = StandOf(std::string(10, 'x'));
  Create("s", std::string(30, 'x'));
  faults_->HoldScans(Space::kJournal);
  Later<SessionInfo> back;
  engine_->RollbackSession({.session = "s", .offset = 10}, back.done());
  ASSERT_TRUE(faults_->AwaitHeld());
  Later<SessionInfo> labelled;
  engine_->UpdateSession(Labelled("s", "v"), labelled.done());
  Later<SessionInfo> limited;
  engine_->UpdateSession({.session = "s", .snapshot_interval_tokens = 77},
                         limited.done());
  faults_->Release();
  EXPECT_THAT(labelled.Await(), IsOk());
  EXPECT_THAT(limited.Await(), IsOk());
  EXPECT_THAT(back.Await(), IsOk());
  const auto check = [&] {
    const SessionInfo info = *engine_->GetSession("s");
    EXPECT_THAT(info.labels, testing::ElementsAre(testing::Pair("k", "v")));
    EXPECT_EQ(info.snapshot_interval_tokens, 77);
    EXPECT_GE(info.revision, limited.Await()->revision);
    EXPECT_EQ(info.epoch, 2);
    EXPECT_EQ(Stand("s"), stand);
  };
  check();
  Crash();
  Start();
  check();
}

// -- Snapshots ---------------------------------------------------------------

TEST_F(SessionRacesTest, ASnapshotThatIsWrittenDuringARollbackComesTooLate) {
  EngineOptions options = Options();
  options.snapshot_interval_tokens = 100;
  options.snapshots_kept = 1;
  Start(options);
  const std::string stand = StandOf(std::string(180, 'x'));
  const auto snapshot = [this]() -> int64_t {
    const auto snapshots = engine_->ListSnapshots("s");
    return snapshots->empty() ? 0 : snapshots->back().offset;
  };
  Create("s", std::string(150, 'x'));
  ASSERT_TRUE(Eventually([&] { return snapshot() == 150; }));
  faults_->Hold(PutsBlob);
  ASSERT_THAT(Append("s", std::string(150, 'x')), IsOk());
  ASSERT_TRUE(faults_->AwaitHeld());
  faults_->HoldScans(Space::kJournal);
  Later<SessionInfo> back;
  engine_->RollbackSession({.session = "s", .offset = 180}, back.done());
  ASSERT_TRUE(faults_->AwaitHeld(2));
  faults_->ReleaseWrites();
  // It may be taken yet, unless the rollback shuts it out.
  Eventually([&] { return snapshot() == 300; }, absl::Seconds(1));
  faults_->Release();
  EXPECT_THAT(back.Await(), IsOk());
  EXPECT_EQ(Stand("s"), stand);
  Crash();
  Start(options);
  EXPECT_EQ(Stand("s"), stand);
}

TEST_F(SessionRacesTest, ASnapshotIsNotDroppedWhileARollbackIsMade) {
  Start();
  const std::string stand = StandOf(std::string(10, 'x'));
  Create("s", std::string(30, 'x'));
  Later<SnapshotInfo> kept;
  engine_->CreateSnapshot({.session = "s", .name = "n"}, kept.done());
  ASSERT_THAT(kept.Await(), IsOk());
  faults_->HoldScans(Space::kJournal);
  Later<SessionInfo> back;
  engine_->RollbackSession({.session = "s", .offset = 10}, back.done());
  ASSERT_TRUE(faults_->AwaitHeld());
  Later<SnapshotInfo> dropped;
  engine_->DeleteSnapshot({.session = "s", .name = "n"}, dropped.done());
  EXPECT_FALSE(Eventually([&] { return dropped.told(); }, absl::Seconds(1)));
  faults_->Release();
  EXPECT_THAT(back.Await(), IsOk());
  EXPECT_THAT(dropped.Await(), IsOk());
  EXPECT_EQ(Stand("s"), stand);
  Crash();
  Start();
  EXPECT_EQ(Stand("s"), stand);
}

// -- Loads -------------------------------------------------------------------

TEST_F(SessionRacesTest, ASessionUpdatedWhileItWasLoadedCanLeaveMemory) {
  Start();
  Create("s", std::string(300, 'x'));
  Start();
  faults_->Hold(KvFaults::Any);
  Later<SessionInfo> updated;
  engine_->UpdateSession(Labelled("s", "v"), updated.done());
  ASSERT_TRUE(faults_->AwaitHeld());
  {
    Later<std::shared_ptr<SessionHold>> loaded;
    engine_->Load("s", "", loaded.done());
    // It may wait for the update.
    Eventually([&] { return loaded.told(); }, absl::Seconds(1));
    faults_->Release();
    EXPECT_THAT(updated.Await(), IsOk());
    EXPECT_THAT(loaded.Await(), IsOk());
  }
  EXPECT_TRUE(Eventually([this] {
    engine_->SetSessionMemory(1 << 16).IgnoreError();
    return engine_->GetSession("s")->tier == StateTier::kCold;
  }));
}

}  // namespace
}  // namespace mneme
