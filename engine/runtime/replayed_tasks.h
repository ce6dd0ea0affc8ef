// SPDX-License-Identifier: Apache-2.0
//
// Tasks that nobody waits for: what the journal says happened, and has to
// happen again or still.
#ifndef MNEME_ENGINE_RUNTIME_REPLAYED_TASKS_H_
#define MNEME_ENGINE_RUNTIME_REPLAYED_TASKS_H_

#include <utility>

#include "engine/runtime/task.h"

namespace mneme {

// What both do not need: there is no stream, and no logits are wanted.
class UnheardTask : public Task {
 public:
  bool commits() const final { return true; }
  void Begin() final {}
  bool done() const final { return done_; }
  bool ends_in_journal() const final { return false; }
  void OnLogits(ConstRows /*logits*/) final {}
  void OnCommitted(SessionState& /*state*/, HistorySink& /*history*/) final {}
  void Fail(const absl::Status& /*status*/, const HistorySink& /*history*/,
            int64_t /*position*/) final {
    done_ = true;
  }
  void Cancel() final {}
  void Notify() final {}

 protected:
  bool done_ = false;
};

// An Ask whose task has failed before it was made: it counts all the same.
class OwedAsk final : public UnheardTask {
 public:
  SessionActivity activity() const override { return SessionActivity::kIdle; }
  Demand Plan(SessionState& state, HistorySink& history) override;
  bool asked() const override { return done(); }
};

// A scoring that was committed, or the commit of a segment that failed: its
// Ask, and the tokens that it took.
class ReplayedScoring final : public UnheardTask {
 public:
  explicit ReplayedScoring(ReplayedTask replayed)
      : replayed_(std::move(replayed)) {}

  SessionActivity activity() const override {
    return SessionActivity::kScoring;
  }
  Demand Plan(SessionState& state, HistorySink& history) override;
  bool asked() const override { return asked_; }

 private:
  const ReplayedTask replayed_;
  size_t next_ = 0;
  bool asked_ = false;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_REPLAYED_TASKS_H_
