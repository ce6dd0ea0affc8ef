// SPDX-License-Identifier: Apache-2.0
//
// The end of an engine while its sessions have work for long: what waits is
// told so, and what was accepted is there when the next one comes.
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "absl/synchronization/notification.h"
#include "engine/engine.h"
#include "gtest/gtest.h"
#include "tests/runtime/engine_fixture.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

// Lets one pass end, and holds the computing there until it is opened.
class PassGate final : public Observer {
 public:
  void OnPass(std::string_view, PassKind, int64_t, int64_t,
              absl::Duration) override {
    if (passes_++ == 0) reached_.Notify();
    opened_.WaitForNotification();
  }
  void AwaitPass() { reached_.WaitForNotification(); }
  void Open() {
    if (!opened_.HasBeenNotified()) opened_.Notify();
  }
  int passes() const { return passes_; }

 private:
  std::atomic<int> passes_ = 0;
  absl::Notification reached_;
  absl::Notification opened_;
};

// What a call comes to.
struct Answer {
  absl::Notification given;
  absl::Status status;
};

class ClosingTest : public EngineTest {
 protected:
  void Start(Observer* observer) {
    StartEngine({.threads = 2,
                 .data_directory = data_dir_.path(),
                 .observer = observer});
  }
  void TearDown() override {
    gate_.Open();
    second_gate_.Open();
    engine_.reset();  // before its directory
  }

  // Appends more than is computed before the gate closes, and waits until that
  // is stored.
  std::unique_ptr<AppendStream> Append(const std::string& bytes,
                                       ProgressWaiter& waiter) {
    auto stream = engine_->OpenAppend({.session = "s"}, &waiter);
    EXPECT_THAT(stream, IsOk());
    EXPECT_THAT((*stream)->Write({.offset = 0, .payload = bytes}), IsOk());
    while ((*stream)->progress().durable_offset <
           static_cast<int64_t>(bytes.size())) {
      EXPECT_TRUE(waiter.Wait());
    }
    return *std::move(stream);
  }

  const std::string input_ = std::string(20'000, 'x');
  TempDir data_dir_;
  PassGate gate_;
  PassGate second_gate_;
};

TEST_F(ClosingTest, WhatWaitsIsRefusedAndWhatWasAcceptedStays) {
  Start(nullptr);
  Create("alike");
  ASSERT_THAT(AppendAll(*engine_, "alike", input_), IsOk());
  const SessionInfo wanted = *Describe(*engine_, "alike");

  Start(&gate_);
  Create("s");
  ProgressWaiter waiter;
  std::unique_ptr<AppendStream> stream = Append(input_, waiter);
  gate_.AwaitPass();
  const auto fork = std::make_shared<Answer>();
  engine_->ForkSession({.source = "s", .id = "t"},
                       [fork](const absl::StatusOr<SessionInfo>& info) {
                         fork->status = info.status();
                         fork->given.Notify();
                       });
  EXPECT_FALSE(fork->given.HasBeenNotified());
  EXPECT_EQ(engine_->Drain(absl::InfinitePast()), 0);
  EXPECT_FALSE(fork->given.HasBeenNotified());

  engine_->Close();
  ASSERT_TRUE(fork->given.HasBeenNotified());
  EXPECT_THAT(fork->status, HasReason("DRAINING"));
  EXPECT_THAT(stream->status(), HasReason("DRAINING"));
  EXPECT_THAT(Describe(*engine_, "s"), HasReason("DRAINING"));
  EXPECT_THAT(Export(*engine_, "s"), HasReason("DRAINING"));
  EXPECT_THAT(Reset(*engine_, {.session = "s"}), HasReason("DRAINING"));
  gate_.Open();
  stream.reset();
  engine_.reset();
  EXPECT_LE(gate_.passes(), 2);  // the one that ran may have had a successor

  Start(nullptr);
  const SessionInfo found = *Describe(*engine_, "s");
  EXPECT_EQ(found.next_offset, static_cast<int64_t>(input_.size()));
  EXPECT_EQ(found.state_digest, wanted.state_digest);
  EXPECT_EQ(found.history_digest, wanted.history_digest);
}

// A load that has a long journal to replay is no task, and nobody's stream.
TEST_F(ClosingTest, ALoadThatReplaysIsCutOff) {
  Start(&gate_);
  Create("s");
  {
    ProgressWaiter waiter;
    const auto stream = Append(input_, waiter);
    gate_.AwaitPass();
    engine_->Close();
    gate_.Open();
  }
  Start(&second_gate_);
  const auto load = std::make_shared<Answer>();
  engine_->Load(
      "s", "",
      [load](const absl::StatusOr<std::shared_ptr<SessionHold>>& hold) {
        load->status = hold.status();
        load->given.Notify();
      });
  second_gate_.AwaitPass();
  EXPECT_EQ(engine_->Drain(absl::InfinitePast()), 0);
  engine_->Close();
  ASSERT_TRUE(load->given.HasBeenNotified());
  EXPECT_THAT(load->status, HasReason("DRAINING"));
  second_gate_.Open();
  engine_.reset();
  EXPECT_LE(second_gate_.passes(), 2);

  Start(nullptr);
  EXPECT_EQ(Describe(*engine_, "s")->next_offset,
            static_cast<int64_t>(input_.size()));
}

TEST_F(ClosingTest, AGenerationWhoseLongPromptIsCutOffGoesOnLater) {
  GenerateOptions options;
  options.session = "s";
  options.prompt = input_;
  options.max_tokens = 20;
  options.ignore_eos = true;
  options.request_id = "r";
  options.request_digest = "d";
  options.sampling.seed = 1;
  Start(nullptr);
  Create("alike");
  GenerateOptions alike = options;
  alike.session = "alike";
  const absl::StatusOr<Generated> wanted = GenerateAll(*engine_, alike);
  ASSERT_THAT(wanted, IsOk());

  Start(&gate_);
  Create("s");
  {
    ProgressWaiter waiter;
    const auto generation = *engine_->Generate(options, &waiter);
    gate_.AwaitPass();
    EXPECT_EQ(engine_->Drain(absl::InfinitePast()), 1);
    engine_->Close();
    gate_.Open();
    EXPECT_THAT(ReadAll(*generation, waiter), HasReason("DRAINING"));
  }
  engine_.reset();
  EXPECT_LE(gate_.passes(), 2);

  Start(nullptr);
  const absl::StatusOr<Generated> found = GenerateAll(*engine_, options);
  ASSERT_THAT(found, IsOk());
  EXPECT_EQ(found->text, wanted->text);
  EXPECT_EQ(Describe(*engine_, "s")->state_digest,
            Describe(*engine_, "alike")->state_digest);
}

}  // namespace
}  // namespace mneme
