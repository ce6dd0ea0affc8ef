// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/segment_commit_task.h"

#include <utility>

namespace mneme {

Demand SegmentCommitTask::Plan(SessionState& state, HistorySink& /*history*/) {
  absl::MutexLock lock(&mutex_);
  if (committed_) {
    Finish(SegmentCommit{.position = state.position(),
                         .segment_tokens = segment_tokens_});
  } else if (cancelled_) {
    Finish(absl::CancelledError("cancelled"));
  }
  if (outcome_.has_value()) return {};
  // A full block before the Ask goes by the path it would have gone anyway.
  if (state.tail_room() == 0) return ComputeTail(state);
  planned_ = true;
  state.Ask();
  const int64_t tail = static_cast<int64_t>(state.tail().size());
  segment_tokens_ =
      (model_->open_segment_tokens(state) + tail) % model_->segment_tokens();
  return {.kind = Demand::Kind::kStep, .rows = tail, .commit_segment = true};
}

bool SegmentCommitTask::done() const {
  absl::MutexLock lock(&mutex_);
  return outcome_.has_value();
}

void SegmentCommitTask::OnCommitted(SessionState& /*state*/,
                                    HistorySink& /*history*/) {
  absl::MutexLock lock(&mutex_);
  committed_ = planned_;  // told when the session is free for the next
}

void SegmentCommitTask::Fail(const absl::Status& status,
                             const HistorySink& /*history*/,
                             int64_t /*position*/) {
  absl::MutexLock lock(&mutex_);
  Finish(status);
}

void SegmentCommitTask::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
}

void SegmentCommitTask::Notify() {
  absl::StatusOr<SegmentCommit> outcome;
  {
    absl::MutexLock lock(&mutex_);
    if (!outcome_.has_value() || std::exchange(reported_, true)) return;
    outcome = *outcome_;
  }
  report_(*this, std::move(outcome));
}

}  // namespace mneme
