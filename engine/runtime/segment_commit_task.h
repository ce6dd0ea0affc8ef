// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_SEGMENT_COMMIT_TASK_H_
#define MNEME_ENGINE_RUNTIME_SEGMENT_COMMIT_TASK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "engine/runtime/task.h"

namespace mneme {

// An early commit of a session's open memory segment: an Ask, then a pass that
// writes the segment.
class SegmentCommitTask final : public Task {
 public:
  using Report =
      std::function<void(const Task&, absl::StatusOr<SegmentCommit>)>;

  // `report` is called once, without a lock held, from a thread of the engine.
  SegmentCommitTask(std::shared_ptr<const Model> model, const LoadReport& load,
                    RequestTag<SegmentCommit> request, Report report)
      : model_(std::move(model)),
        load_(load),
        request_(std::move(request)),
        report_(std::move(report)) {}

  bool commits() const override { return true; }
  SessionActivity activity() const override {
    return SessionActivity::kCommittingSegment;
  }
  AskRecord DescribeAsk() const override {
    return {.kind = AskRecord::Kind::kCommitSegment};
  }
  void Begin() override;
  Demand Plan(SessionState& state, HistorySink& history) override;
  bool done() const override;
  bool asked() const override;
  EndRecord DescribeEnd() const override;
  absl::optional<RememberedRequest> DescribeRequest(
      absl::Time now) const override;
  void Settle(const absl::Status& stored, int64_t durable_offset) override;
  void OnLogits(ConstRows /*logits*/) override {}
  void OnCommitted(SessionState& state, HistorySink& history) override;
  void Fail(const absl::Status& status, const HistorySink& history,
            int64_t position) override;
  void Cancel() override;
  void Notify() override;

 private:
  void Finish(absl::StatusOr<SegmentCommit> outcome)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!outcome_.has_value()) outcome_ = std::move(outcome);
  }

  const std::shared_ptr<const Model> model_;
  const LoadReport load_;
  const RequestTag<SegmentCommit> request_;
  const Report report_;

  mutable absl::Mutex mutex_;
  int64_t segment_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  // What is in the journal happens, cancelled or not.
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool planned_ ABSL_GUARDED_BY(mutex_) = false;
  bool committed_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  absl::optional<absl::StatusOr<SegmentCommit>> outcome_
      ABSL_GUARDED_BY(mutex_);
  bool settled_ ABSL_GUARDED_BY(mutex_) = false;
  bool reported_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SEGMENT_COMMIT_TASK_H_
