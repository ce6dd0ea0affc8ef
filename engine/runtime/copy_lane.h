// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_COPY_LANE_H_
#define MNEME_ENGINE_RUNTIME_COPY_LANE_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/runtime/history.h"
#include "engine/runtime/input_queue.h"
#include "engine/runtime/lane.h"
#include "engine/runtime/served_model.h"
#include "engine/runtime/task.h"

namespace mneme {

// A task on a copy of a session's state, which ends with it. Driven by the
// scheduler alone; the task keeps it alive until it is done.
class CopyLane final : public Lane {
 public:
  // `pending`: the session's queue, with what no state holds yet.
  CopyLane(std::shared_ptr<const ServedModel> model, SessionUnit unit,
           int64_t next_offset, const InputQueue& pending,
           absl::StatusOr<std::unique_ptr<SessionState>> state,
           std::shared_ptr<Task> task);

  const Model& model() const override { return *model_->model; }
  Demand Plan() override;
  bool Begin() override { return true; }
  SessionState& state() override { return **state_; }
  void Complete(const absl::Status& status, ConstRows logits) override;

 private:
  void EndTask();
  // Fills the tail from the input; false once there is none left.
  bool PullInput();

  // Counts offsets, and forgets what they were.
  class Sink final : public HistorySink {
   public:
    Sink(SessionUnit unit, int64_t next_offset)
        : unit_(unit), next_offset_(next_offset) {}
    SessionUnit unit() const { return unit_; }
    int64_t next_offset() const override { return next_offset_; }
    void Skip(int64_t units) { next_offset_ += units; }
    void RecordToken(int32_t token, std::string_view bytes) override;

   private:
    const SessionUnit unit_;
    int64_t next_offset_;
  };

  const std::shared_ptr<const ServedModel> model_;
  // Or why there is none: then the task fails when it is planned.
  const absl::StatusOr<std::unique_ptr<SessionState>> state_;
  const std::shared_ptr<Task> task_;
  Sink sink_;
  InputQueue input_;  // what comes before the task
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_COPY_LANE_H_
