// SPDX-License-Identifier: Apache-2.0
//
// A pass that fails leaves every state as it was: whatever pass it is, the
// same work done again ends in the digest of a run without a fault.
#include <memory>
#include <string>
#include <thread>

#include "engine/base/clock.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/runtime/scheduler.h"
#include "engine/runtime/session.h"
#include "engine/text/tokenizer.h"
#include "engine/tools/presets.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/fault_backend.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

class FaultTest : public testing::Test {
 protected:
  void SetUp() override {
    const ModelConfig config = *PresetConfig("ttt-linear-tiny");
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
    return std::make_shared<Session>(
        Session::Setup{.id = "s",
                       .uid = "u",
                       .unit = SessionUnit::kText,
                       .model = model_,
                       .state = *model_->model->NewState(),
                       .clock = Clock::Real(),
                       .observer = &observer_},
        [](const Session&, const std::shared_ptr<Task>&, const SessionState&,
           int64_t, std::string_view) {});
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
    EXPECT_TRUE(session.WithState(
        [&](const SessionState& state, std::string_view, SessionInfo&) {
          digest = state.Digest(model_->model->fingerprint());
        },
        info));
    return digest + info.history_digest;
  }

  TempDir dir_;
  Observer observer_;
  FaultBackend backend_{MakeCpuBackend(1)};
  std::shared_ptr<const ServedModel> model_;
  Scheduler scheduler_{Clock::Real(), &observer_};
};

TEST_F(FaultTest, WhatWasPlannedBeforeAResetIsNotComputed) {
  const auto session = MakeSession();
  ProgressWaiter waiter;
  AppendOpened opened;
  const auto writer = *session->OpenWriter({.session = "s"}, &waiter, opened);
  ASSERT_THAT(session->Write(*writer, {.payload = std::string(100, 'x')}),
              IsOk());
  EXPECT_FALSE(session->Plan().none());
  ASSERT_THAT(session->Reset(/*takeover=*/true), IsOk());
  EXPECT_FALSE(session->Begin());
  session->CloseWriter(writer);
}

TEST_F(FaultTest, AFailedBlockIsComputedAgainAsIfNothingHadBeen) {
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

}  // namespace
}  // namespace mneme
