// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/segment_commit_task.h"

#include <utility>

#include "engine/runtime/requests.h"

namespace mneme {

void SegmentCommitTask::Begin() {
  absl::MutexLock lock(&mutex_);
  begun_ = true;
}

bool SegmentCommitTask::asked() const {
  absl::MutexLock lock(&mutex_);
  return planned_;
}

EndRecord SegmentCommitTask::DescribeEnd() const {
  absl::MutexLock lock(&mutex_);
  const absl::Status status =
      outcome_.has_value() ? outcome_->status() : absl::OkStatus();
  return {.status_code = status.raw_code(),
          .message = std::string(status.message())};
}

absl::optional<RememberedRequest> SegmentCommitTask::DescribeRequest(
    absl::Time now) const {
  absl::MutexLock lock(&mutex_);
  if (!outcome_.has_value() || !outcome_->ok()) return absl::nullopt;
  return Remember(request_, **outcome_, now);
}

void SegmentCommitTask::Settle(const absl::Status& stored,
                               int64_t /*durable_offset*/) {
  absl::MutexLock lock(&mutex_);
  settled_ = true;
  if (!stored.ok()) outcome_ = stored;
}

Demand SegmentCommitTask::Plan(SessionState& state, HistorySink& /*history*/) {
  absl::MutexLock lock(&mutex_);
  if (committed_) {
    Finish(SegmentCommit{.position = state.position(),
                         .segment_tokens = segment_tokens_,
                         .load = load_});
  } else if (cancelled_ && !begun_) {
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
    if (!outcome_.has_value() || !settled_) return;
    if (std::exchange(reported_, true)) return;
    outcome = *outcome_;
  }
  report_(*this, std::move(outcome));
}

}  // namespace mneme
