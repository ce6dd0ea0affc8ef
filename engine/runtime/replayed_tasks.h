// SPDX-License-Identifier: Apache-2.0
//
// Tasks that nobody waits for: what the journal says happened, and has to
// happen again or still.
#ifndef MNEME_ENGINE_RUNTIME_REPLAYED_TASKS_H_
#define MNEME_ENGINE_RUNTIME_REPLAYED_TASKS_H_

#include <utility>

#include "engine/runtime/task.h"

namespace mneme {

// An Ask whose task has failed before it was made: it counts all the same.
class OwedAsk final : public Task {
 public:
  bool commits() const override { return true; }
  SessionActivity activity() const override { return SessionActivity::kIdle; }
  void Begin() override {}
  Demand Plan(SessionState& state, HistorySink& history) override;
  bool done() const override { return done_; }
  bool asked() const override { return done_; }
  void OnLogits(ConstRows /*logits*/) override {}
  void OnCommitted(SessionState& /*state*/, HistorySink& /*history*/) override {
  }
  void Fail(const absl::Status& /*status*/, const HistorySink& /*history*/,
            int64_t /*position*/) override {
    done_ = true;
  }
  void Cancel() override {}
  void Notify() override {}

 private:
  bool done_ = false;
};

// A scoring that was committed, or the commit of a segment that failed: its
// Ask, and the tokens that it took.
class ReplayedScoring final : public Task {
 public:
  explicit ReplayedScoring(ReplayedTask replayed)
      : replayed_(std::move(replayed)) {}

  bool commits() const override { return true; }
  SessionActivity activity() const override {
    return SessionActivity::kScoring;
  }
  void Begin() override {}
  Demand Plan(SessionState& state, HistorySink& history) override;
  bool done() const override { return done_; }
  bool asked() const override { return asked_; }
  void OnLogits(ConstRows /*logits*/) override {}
  void OnCommitted(SessionState& /*state*/, HistorySink& /*history*/) override {
  }
  void Fail(const absl::Status& /*status*/, const HistorySink& /*history*/,
            int64_t /*position*/) override {
    done_ = true;
  }
  void Cancel() override {}
  void Notify() override {}

 private:
  const ReplayedTask replayed_;
  size_t next_ = 0;
  bool asked_ = false;
  bool done_ = false;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_REPLAYED_TASKS_H_
