// SPDX-License-Identifier: Apache-2.0
//
// What the next engine finds is what this one answered: after a crash, after a
// second one, after damage, and in a file that is carried elsewhere.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/wait_for.h"
#include "engine/store/store_keys.h"
#include "tests/fault/stored_engine_fixture.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Space = KvStore::Space;

class CrashAgainTest : public StoredEngineTest {
 protected:
  // "s" is the same now as after a crash right now.
  void ExpectSameAfterCrash() {
    const std::string live = Stand("s");
    EXPECT_EQ(live.rfind("offset", 0), 0) << live;
    Crash();
    Start();
    EXPECT_EQ(Stand("s"), live);
  }
};

// -- Generations that were cut off -------------------------------------------

TEST_F(CrashAgainTest, ARollbackThatFailedLeavesNothingToReplay) {
  Start();
  Create("s", "hello");
  faults_->Hold(JournalsAsk);
  {
    ProgressWaiter waiter;
    const auto generation = engine_->Generate(
        {.session = "s", .prompt = std::string("a prompt"), .max_tokens = 3},
        &waiter);
    ASSERT_THAT(generation, IsOk());
    ASSERT_TRUE(faults_->AwaitHeld());
    faults_->RefuseScan(Space::kJournal);
    const auto lag = [this] { return engine_->stats().durable_lag_bytes; };
    const int64_t before = lag();
    Later<SessionInfo> back;
    engine_->RollbackSession({.session = "s", .offset = 3, .takeover = true},
                             back.done());
    // By then it has ended the generation.
    Eventually([&] { return lag() > before; });
    faults_->Release();
    EXPECT_FALSE(absl::IsDeadlineExceeded(back.Await().status()));
  }
  faults_->Heal();
  ASSERT_THAT(Append("s", "more"), IsOk());
  ExpectSameAfterCrash();
}

TEST_F(CrashAgainTest, WhatFollowsAGenerationThatWasCutOffIsReplayedAsItWas) {
  Start();
  Create("s", "hello world, this is");
  faults_->Hold(JournalsEnd);
  std::shared_ptr<KvStore> left;
  {
    ProgressWaiter waiter;
    const auto generation =
        engine_->Generate({.session = "s", .max_tokens = 3}, &waiter);
    ASSERT_THAT(generation, IsOk());
    ASSERT_TRUE(faults_->AwaitHeld());
    left = CopyOfStore();
    faults_->Release();
  }
  CrashTo(left);
  Start();
  ASSERT_THAT(Append("s", "more"), IsOk());
  ExpectSameAfterCrash();
}

// -- Answers that are kept ---------------------------------------------------

TEST_F(CrashAgainTest, AForkThatIsTakenBackHasNotTheAnswerOfItsSource) {
  Start();
  Create("source", "hello");
  GenerateOptions ask{.session = "source",
                      .max_tokens = 4,
                      .ignore_eos = true,
                      .request_id = "r"};
  ASSERT_THAT(GenerateAll(*engine_, ask), IsOk());
  ASSERT_THAT(Fork(*engine_, {.source = "source", .id = "s"}), IsOk());
  const std::string forked = Stand("s");
  const std::string inherited = engine_->ListSnapshots("s")->at(0).name;
  ask.session = "s";
  for (int i = 0; i < 2; ++i) {
    ASSERT_THAT(Append("s", "more"), IsOk());
    ExpectSameAfterCrash();
    ASSERT_THAT(
        Rollback(*engine_, {.session = "s", .snapshot = inherited}).status(),
        IsOk());
    EXPECT_EQ(Stand("s"), forked);
    ExpectSameAfterCrash();
    const auto answer = GenerateAll(*engine_, ask);
    ASSERT_THAT(answer, IsOk());
    EXPECT_FALSE(answer->started.attached);
    ExpectSameAfterCrash();
    EXPECT_TRUE(GenerateAll(*engine_, ask)->started.attached);
  }
}

TEST_F(CrashAgainTest, ASessionThatIsTakenBackHasTheAnswerItHadThen) {
  Start();
  Create("s", "hello");
  const GenerateOptions ask{
      .session = "s", .max_tokens = 4, .ignore_eos = true, .request_id = "r"};
  ASSERT_THAT(GenerateAll(*engine_, ask), IsOk());
  ASSERT_THAT(KeepSnapshot(*engine_, {.session = "s", .name = "n"}), IsOk());
  for (int i = 0; i < 2; ++i) {
    ASSERT_THAT(Append("s", "more"), IsOk());
    ASSERT_THAT(Rollback(*engine_, {.session = "s", .snapshot = "n"}), IsOk());
    EXPECT_TRUE(GenerateAll(*engine_, ask)->started.attached);
    ExpectSameAfterCrash();
  }
}

// -- Answers that are remembered ---------------------------------------------

TEST_F(CrashAgainTest, ARollbackIsRememberedWithWhatItAnswered) {
  Start();
  Create("s", std::string(300, 'x'));
  RollbackOptions options{.session = "s", .offset = 100};
  options.request = {.id = "r", .digest = "d", .reply = [](const auto& info) {
                       return absl::StrCat(info.next_offset);
                     }};
  const absl::StatusOr<SessionInfo> answer = Rollback(*engine_, options);
  ASSERT_THAT(answer, IsOk());
  EXPECT_EQ(answer->next_offset, 100);
  Start();
  const std::vector<AnsweredRequest> answered = engine_->TakeAnsweredRequests();
  ASSERT_EQ(answered.size(), 1);
  EXPECT_EQ(answered[0].reply, "100");
}

TEST_F(CrashAgainTest, AResetIsRememberedWithWhatItAnswered) {
  Start();
  Create("s", std::string(300, 'x'));
  ResetOptions options{.session = "s"};
  options.request = {.id = "r", .digest = "d", .reply = [](const auto& info) {
                       return absl::StrCat(info.next_offset);
                     }};
  const absl::StatusOr<SessionInfo> answer = Reset(*engine_, options);
  ASSERT_THAT(answer, IsOk());
  EXPECT_EQ(answer->next_offset, 0);
  Start();
  const std::vector<AnsweredRequest> answered = engine_->TakeAnsweredRequests();
  ASSERT_EQ(answered.size(), 1);
  EXPECT_EQ(answered[0].reply, "0");
}

// -- A journal whose end is missing ------------------------------------------

class MissingJournalTest : public CrashAgainTest {
 protected:
  void SetUp() override {
    CrashAgainTest::SetUp();
    Start();
    Create("s", std::string(30, 'x'));
    Crash();
    KvStore::Batch batch;
    ASSERT_THAT(kv_->Scan(Space::kJournal, "", "\xff\xff",
                          [&](std::string_view key, std::string_view) {
                            DeleteKey(Space::kJournal, std::string(key), batch);
                            return true;
                          }),
                IsOk());
    ASSERT_FALSE(batch.empty());
    ASSERT_THAT(kv_->Write(batch, /*sync=*/true), IsOk());
    Start();
  }
};

TEST_F(MissingJournalTest, QuarantinesTheSession) {
  EXPECT_THAT(Append("s", "more"), HasReason("SESSION_QUARANTINED"));
  const absl::StatusOr<SessionInfo> info = engine_->GetSession("s");
  ASSERT_THAT(info.status(), IsOk());
  EXPECT_EQ(info->condition, SessionCondition::kQuarantined);
  EXPECT_FALSE(info->quarantine.empty());
  EXPECT_EQ(engine_->stats().sessions, 1);
}

TEST_F(MissingJournalTest, DoesNotFreeTheId) {
  EXPECT_THAT(Make("s"), Fails(StatusCode::kAlreadyExists, "s"));
  EXPECT_THAT(TryStart(), IsOk());
}

TEST_F(MissingJournalTest, DoesNotKeepASessionFromBeingDeleted) {
  ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
  Create("s", "hello");
  const std::string stand = Stand("s");
  ASSERT_THAT(TryStart(), IsOk());
  EXPECT_EQ(Stand("s"), stand);
}

TEST_F(MissingJournalTest, DoesNotKeepASessionFromBeingReset) {
  ASSERT_THAT(Reset(*engine_, {.session = "s"}).status(), IsOk());
  EXPECT_EQ(engine_->GetSession("s")->condition, SessionCondition::kActive);
  ASSERT_THAT(Append("s", "hello"), IsOk());
  ExpectSameAfterCrash();
}

// -- Elsewhere ---------------------------------------------------------------

TEST_F(CrashAgainTest, ASnapshotTakenWhileInputWaitedIsExportedWhole) {
  EngineOptions options = Options();
  options.snapshot_interval_tokens = 64;
  Start(options);
  const std::string text(50000, 'x');
  const std::string stand = StandOf(text);
  // One segment, so that the first snapshot, of the first block, stays the
  // last: it is written when the rest is computed.
  Create("s");
  faults_->Hold(PutsBlob);
  ASSERT_THAT(Append("s", text), IsOk());
  ASSERT_TRUE(faults_->AwaitHeld());
  faults_->Release();
  const auto list = [this] { return *engine_->ListSnapshots("s"); };
  ASSERT_TRUE(Eventually([&] { return !list().empty(); }));
  const SnapshotInfo kept = list().front();
  ASSERT_EQ(kept.offset, 50000);
  const auto exported = WaitFor<absl::StatusOr<std::unique_ptr<SessionExport>>>(
      [&](const auto& done) { engine_->ExportSession("s", kept.name, done); });
  ASSERT_THAT(exported, IsOk());
  auto import = engine_->ImportSession({.id = "i"});
  ASSERT_THAT(import, IsOk());
  for (int64_t at = 0; at < (*exported)->total_bytes();) {
    const std::string_view piece = (*exported)->Read(at, 1 << 18);
    ASSERT_THAT((*import)->Add(piece), IsOk());
    at += static_cast<int64_t>(piece.size());
  }
  ASSERT_THAT(Finish(**import).status(), IsOk());
  EXPECT_EQ(Stand("i"), stand);
}

// -- On a disk ---------------------------------------------------------------

class DeletedFromDiskTest : public StoredEngineTest {
 protected:
  static constexpr char kSecret[] = "a marker that nothing else has, zqxjkv";

  void StartOnDisk() {
    engine_.reset();
    engine_ = *Engine::Create({.threads = 1, .data_directory = disk_.path()});
    ASSERT_THAT(engine_->LoadModel("tiny", model_dir_.path()), IsOk());
  }
  // The store's files that have the secret.
  std::vector<std::string> Holders() const {
    std::vector<std::string> holders;
    for (const auto& file :
         std::filesystem::recursive_directory_iterator(disk_.path())) {
      if (!file.is_regular_file()) continue;
      std::ifstream in(file.path(), std::ios::binary);
      const std::string all((std::istreambuf_iterator<char>(in)), {});
      if (all.find(kSecret) != std::string::npos) {
        holders.push_back(file.path().filename());
      }
    }
    return holders;
  }
  // The engine may clean up when it has started.
  void ExpectGone() {
    Eventually([this] { return Holders().empty(); });
    EXPECT_THAT(Holders(), testing::IsEmpty());
  }
  void TearDown() override { engine_.reset(); }  // before its directory

  TempDir disk_;
};

TEST_F(DeletedFromDiskTest, NothingOfASessionIsLeftAfterTheNextStart) {
  StartOnDisk();
  Create("s", kSecret);
  ASSERT_THAT(Holders(), testing::Not(testing::IsEmpty()));
  ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
  engine_->Drain(absl::InfinitePast());
  StartOnDisk();
  ExpectGone();
}

TEST_F(DeletedFromDiskTest, NothingOfAnOldSessionIsLeftAfterTheNextStart) {
  StartOnDisk();
  Create("s", kSecret);
  StartOnDisk();
  StartOnDisk();
  ASSERT_THAT(Holders(), testing::Not(testing::IsEmpty()));
  ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
  engine_->Drain(absl::InfinitePast());
  StartOnDisk();
  ExpectGone();
}

}  // namespace
}  // namespace mneme
