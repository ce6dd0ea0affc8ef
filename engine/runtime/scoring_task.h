// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_SCORING_TASK_H_
#define MNEME_ENGINE_RUNTIME_SCORING_TASK_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/clock.h"
#include "engine/runtime/input_queue.h"
#include "engine/runtime/notifier.h"
#include "engine/runtime/observer.h"
#include "engine/runtime/served_model.h"
#include "engine/runtime/task.h"

namespace mneme {

// A scoring: an Ask, then the text, block by block, with the logits of every
// token, then an Ask where it ends.
class ScoringTask final : public Task {
 public:
  struct Setup {
    std::shared_ptr<const ServedModel> model;
    SessionUnit unit = SessionUnit::kText;
    bool commit = false;
    RequestTag<ScoreEvent> request;  // of one that commits
    LoadReport load;
    const Clock* clock = nullptr;
    Observer* observer = nullptr;
  };

  ScoringTask(Setup setup, StreamListener* listener);

  bool commits() const override { return setup_.commit; }
  SessionActivity activity() const override {
    return SessionActivity::kScoring;
  }
  AskRecord DescribeAsk() const override {
    return {.kind = AskRecord::Kind::kScore};
  }
  void Begin() override;
  Demand Plan(SessionState& state, HistorySink& history) override;
  bool done() const override;
  bool asked() const override { return started_; }
  EndRecord DescribeEnd() const override;
  absl::optional<RememberedRequest> DescribeRequest(
      absl::Time now) const override;
  void Settle(const absl::Status& stored, int64_t durable_offset) override;
  void OnLogits(ConstRows logits) override;
  void OnCommitted(SessionState& state, HistorySink& history) override;
  void Fail(const absl::Status& status, const HistorySink& history,
            int64_t position) override;
  void Cancel() override;
  bool CancelIfUnread(absl::Duration now) override;
  void Notify() override { notifier_.Notify(); }

  // As Scoring says.
  absl::StatusOr<Offer> Write(const Payload& payload);
  void FinishInput();
  // `*resume` as Reply::Poll.
  absl::optional<ScoreEvent> Poll(bool* resume);
  void Detach() { notifier_.Detach(); }

 private:
  void PullInput(SessionState& state, HistorySink& history)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Demand ScoreTail(const SessionState& state, Demand demand);
  void Finish(const absl::Status& status, int64_t next_offset, int64_t position)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Setup setup_;
  const absl::Duration arrival_;  // on the monotonic clock
  Notifier notifier_;

  // The scheduler thread's own.
  bool started_ = false;
  int64_t begin_offset_ = 0;    // once started: where the history stood
  int64_t begin_position_ = 0;  // likewise
  absl::Duration first_pass_;
  std::vector<ScoreEvent::Token> unscored_;  // tokens of the tail
  int64_t unscored_bytes_ = 0;               // of text, theirs
  bool skip_first_ = false;  // the first of them has nothing before it
  std::vector<ScoreEvent::Token> scored_;

  mutable absl::Mutex mutex_;
  InputQueue input_ ABSL_GUARDED_BY(mutex_);
  bool input_finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status cancelled_ ABSL_GUARDED_BY(mutex_);  // not OK: it is to end
  // Since when it waits for its reader, on the monotonic clock.
  absl::optional<absl::Duration> paused_since_ ABSL_GUARDED_BY(mutex_);
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status ended_ ABSL_GUARDED_BY(mutex_);  // it ended with this
  bool settled_ ABSL_GUARDED_BY(mutex_) = false;
  ScoreTotals totals_ ABSL_GUARDED_BY(mutex_);
  std::deque<ScoreEvent> events_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SCORING_TASK_H_
