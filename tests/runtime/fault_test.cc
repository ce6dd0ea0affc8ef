// SPDX-License-Identifier: Apache-2.0
//
// A pass that fails leaves every state as it was: whatever pass it is, the
// same work done again ends in the digest of a run without a fault.
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_replace.h"
#include "engine/base/clock.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/runtime/scheduler.h"
#include "engine/runtime/segment_commit_task.h"
#include "engine/runtime/session.h"
#include "engine/text/tokenizer.h"
#include "engine/tools/presets.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/fault_backend.h"
#include "tests/support/session_rig.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

// By the name of a preset.
class FaultTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const ModelConfig config = *PresetConfig(GetParam());
    ASSERT_THAT(WriteRandomModel(config, 1, dir_.path()), IsOk());
    auto served = std::make_shared<ServedModel>();
    served->name = "tiny";
    served->model = *Model::Load(dir_.path(), {}, &backend_);
    served->tokenizer = MakeByteTokenizer({.vocab_size = config.vocab_size,
                                           .bos = config.bos_token,
                                           .eos = config.eos_tokens});
    model_ = served;
    ASSERT_THAT(scheduler_.AddModel("tiny", model_->model), IsOk());
  }

  std::shared_ptr<Session> MakeSession() {
    return rig_.Make(model_, SessionUnit::kText);
  }

  // Appends until all is absorbed, opening again after each failure.
  // Returns the number of failures.
  int AppendThroughFaults(const std::shared_ptr<Session>& session,
                          const std::string& text) {
    int failures = 0;
    while (true) {
      ProgressWaiter waiter;
      AppendOpened opened;
      const auto writer =
          *session->OpenWriter({.session = "s"}, &waiter, opened);
      scheduler_.Wake(session);
      if (opened.next_offset < static_cast<int64_t>(text.size())) {
        EXPECT_THAT(session->Write(
                        *writer, {.offset = opened.next_offset,
                                  .payload = text.substr(opened.next_offset)}),
                    IsOk());
        scheduler_.Wake(session);
      }
      while (session->WriterStatus(*writer).ok() && !Settled(*session, text)) {
        std::this_thread::yield();  // a commit alone tells no listener
      }
      const bool failed = !session->WriterStatus(*writer).ok();
      session->CloseWriter(writer);
      if (!failed) return failures;
      ++failures;
    }
  }

  // Everything is computed that a block can be made of.
  static bool Settled(const Session& session, const std::string& text) {
    const SessionInfo info = session.Info();
    return info.position == static_cast<int64_t>(text.size()) + 1 &&
           info.pending_tokens < 64;
  }

  std::string DigestOf(Session& session) {
    SessionInfo info;
    std::string digest;
    EXPECT_THAT(
        session.WithState(
            [&](const SessionState& state, std::string_view, SessionInfo&) {
              digest = state.Digest(model_->model->fingerprint());
            },
            info),
        IsOk());
    return digest + info.history_digest;
  }

  TempDir dir_;
  Observer observer_;
  FaultBackend backend_{MakeCpuBackend(1)};
  std::shared_ptr<const ServedModel> model_;
  Scheduler scheduler_{Clock::Real(), &observer_};
  SessionRig rig_{nullptr};
};

TEST_P(FaultTest, WhatWasPlannedBeforeAResetIsNotComputed) {
  const auto session = MakeSession();
  ProgressWaiter waiter;
  AppendOpened opened;
  const auto writer = *session->OpenWriter({.session = "s"}, &waiter, opened);
  ASSERT_THAT(session->Write(*writer, {.payload = std::string(100, 'x')}),
              IsOk());
  EXPECT_FALSE(session->Plan().none());
  ASSERT_THAT(session->Reset({.session = "s", .takeover = true}), IsOk());
  EXPECT_FALSE(session->Begin());
  session->CloseWriter(writer);
}

TEST_P(FaultTest, AFailedBlockIsComputedAgainAsIfNothingHadBeen) {
  std::string text;
  for (int i = 0; i < 500; ++i) text.push_back(static_cast<char>(i * 37));
  const auto quiet = MakeSession();
  ASSERT_EQ(AppendThroughFaults(quiet, text), 0);
  const std::string wanted = DigestOf(*quiet);
  for (int n = 1; n <= 7; ++n) {  // 501 tokens are seven blocks and a tail
    const auto session = MakeSession();
    backend_.FailPass(n);
    EXPECT_EQ(AppendThroughFaults(session, text), 1) << "pass " << n;
    EXPECT_EQ(DigestOf(*session), wanted) << "pass " << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Mixers, FaultTest,
                         testing::ValuesIn(TinyPresetNames()),
                         [](const auto& test) {
                           return absl::StrReplaceAll(test.param, {{"-", "_"}});
                         });

// What has been said of a commit.
struct CommitOutcome {
  std::atomic<int> times = 0;  // last: a thread of the store may say it
  absl::StatusOr<SegmentCommit> commit = absl::UnknownError("nothing");
};

class SegmentCommitTaskTest : public FaultTest {
 protected:
  std::shared_ptr<SegmentCommitTask> AddCommit(Session& session,
                                               CommitOutcome* outcome) {
    auto task = std::make_shared<SegmentCommitTask>(
        model_->model, LoadReport{}, RequestTag<SegmentCommit>{},
        [outcome](const Task&, absl::StatusOr<SegmentCommit> commit) {
          outcome->commit = std::move(commit);
          ++outcome->times;
        });
    EXPECT_THAT(session.AddTask(task, {}), IsOk());
    return task;
  }
  // Runs the pass that was planned.
  absl::Status RunPass(Session& session, const Demand& demand) {
    EXPECT_TRUE(session.Begin());
    Workspace workspace(model_->model->workspace_bytes(64));
    const ModelSlice slice{.state = &session.state(),
                           .tokens = session.state().tail(),
                           .commit_segment = demand.commit_segment};
    absl::Status status = model_->model->Forward(
        demand.kind == Demand::Kind::kBlock ? ComputePath::kBlock
                                            : ComputePath::kStep,
        {slice}, workspace,
        model_->model->LogitsScratch(ComputePath::kStep, 0, workspace));
    session.Complete(status, ConstRows());
    return status;
  }
};

TEST_P(SegmentCommitTaskTest, IsToldWhenTheSessionIsFreeAgain) {
  const auto session = MakeSession();
  CommitOutcome outcome;
  AddCommit(*session, &outcome);
  const Demand demand = SessionRig::PlanStored(*session);
  EXPECT_TRUE(demand.commit_segment);
  EXPECT_EQ(demand.rows, 1);  // the token that begins a history
  ASSERT_THAT(RunPass(*session, demand), IsOk());
  EXPECT_EQ(outcome.times, 0);
  EXPECT_TRUE(
      SessionRig::PlanUntil(*session, [&] { return outcome.times > 0; }));
  EXPECT_EQ(outcome.times, 1);
  ASSERT_THAT(outcome.commit, IsOk());
  EXPECT_EQ(outcome.commit->position, 1);
  EXPECT_EQ(outcome.commit->segment_tokens, 1);
  EXPECT_EQ(session->Info().activity, SessionActivity::kIdle);
}

TEST_P(SegmentCommitTaskTest, AFailedPassCommitsNothing) {
  const auto session = MakeSession();
  CommitOutcome outcome;
  AddCommit(*session, &outcome);
  const Demand demand = SessionRig::PlanStored(*session);
  backend_.FailPass(1);
  EXPECT_FALSE(RunPass(*session, demand).ok());
  EXPECT_TRUE(
      SessionRig::PlanUntil(*session, [&] { return outcome.times > 0; }));
  EXPECT_FALSE(outcome.commit.ok());
  CommitOutcome again;
  AddCommit(*session, &again);
  ASSERT_THAT(RunPass(*session, SessionRig::PlanStored(*session)), IsOk());
  EXPECT_TRUE(SessionRig::PlanUntil(*session, [&] { return again.times > 0; }));
  ASSERT_THAT(again.commit, IsOk());
  EXPECT_EQ(again.commit->segment_tokens, 1);
}

TEST_P(SegmentCommitTaskTest, AbortedBehindInputItEndsAtOnce) {
  const auto session = MakeSession();
  ProgressWaiter waiter;
  AppendOpened opened;
  const auto writer = *session->OpenWriter({.session = "s"}, &waiter, opened);
  ASSERT_THAT(session->Write(*writer, {.payload = std::string(1000, 'x')}),
              IsOk());
  CommitOutcome outcome;
  const auto task = AddCommit(*session, &outcome);
  EXPECT_EQ(session->Plan().kind, Demand::Kind::kBlock);
  EXPECT_EQ(outcome.times, 0);
  task->Abort(absl::UnavailableError("enough"), Task::AbortIf::kWaiting);
  EXPECT_EQ(session->Plan().kind, Demand::Kind::kBlock);
  EXPECT_EQ(outcome.times, 1);
  EXPECT_THAT(outcome.commit, Fails(absl::StatusCode::kUnavailable, "enough"));
  session->CloseWriter(writer);
}

TEST_P(SegmentCommitTaskTest, CancelledDuringItsPassItIsDoneAllTheSame) {
  const auto session = MakeSession();
  CommitOutcome outcome;
  const auto task = AddCommit(*session, &outcome);
  const Demand demand = SessionRig::PlanStored(*session);
  task->Abort(absl::UnavailableError("enough"), Task::AbortIf::kWaiting);
  task->Cancel();
  ASSERT_THAT(RunPass(*session, demand), IsOk());
  EXPECT_TRUE(
      SessionRig::PlanUntil(*session, [&] { return outcome.times > 0; }));
  EXPECT_THAT(outcome.commit, IsOk());
}

TEST_P(SegmentCommitTaskTest, AResetEndsIt) {
  const auto session = MakeSession();
  CommitOutcome outcome;
  AddCommit(*session, &outcome);
  ASSERT_THAT(session->Reset({.session = "s", .takeover = true}), IsOk());
  EXPECT_EQ(outcome.times, 1);
  EXPECT_THAT(outcome.commit, HasReason("TAKEN_OVER"));
}

TEST_P(SegmentCommitTaskTest, ADeletionEndsIt) {
  const auto session = MakeSession();
  CommitOutcome outcome;
  AddCommit(*session, &outcome);
  session->Delete(SessionEvent::Kind::kDeleted);
  EXPECT_TRUE(session->Plan().none());
  EXPECT_EQ(outcome.times, 1);
  EXPECT_THAT(outcome.commit,
              Fails(absl::StatusCode::kNotFound, "was deleted"));
}

INSTANTIATE_TEST_SUITE_P(Infini, SegmentCommitTaskTest,
                         testing::Values("infini-tiny"));

}  // namespace
}  // namespace mneme
