// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/copy_lane.h"

#include <utility>

namespace mneme {

void CopyLane::Sink::RecordToken(int32_t, std::string_view bytes) {
  next_offset_ +=
      unit_ == SessionUnit::kText ? static_cast<int64_t>(bytes.size()) : 1;
}

CopyLane::CopyLane(std::shared_ptr<const ServedModel> model, SessionUnit unit,
                   int64_t next_offset, const InputQueue& pending,
                   absl::StatusOr<std::unique_ptr<SessionState>> state,
                   std::shared_ptr<Task> task)
    : model_(std::move(model)),
      state_(std::move(state)),
      task_(std::move(task)),
      sink_(unit, next_offset),
      input_(pending) {
  input_.Reserve(0);
  task_->Begin();
  const Prompt prompt = task_->TakePrompt();
  sink_.Skip(static_cast<int64_t>(prompt.bytes.size()) / UnitBytes(unit));
  input_.AppendPrompt(prompt);
  // The history may have grown since the prompt was taken.
  if (state_.ok()) {
    const absl::Status status =
        input_.CheckLimit("prompt", (*state_)->position());
    if (!status.ok()) task_->Abort(status);
  }
}

bool CopyLane::PullInput() {
  SessionState& state = **state_;
  while (state.tail_room() > 0) {
    const bool begins = sink_.unit() == SessionUnit::kText &&
                        model_->TextBegins(state.position());
    const auto token = input_.Next(begins, /*ends=*/true);
    if (!token.has_value()) return false;
    state.PushToken(token->id);
    task_->CountPromptTokens(1);
  }
  return !input_.idle();
}

void CopyLane::EndTask() {
  task_->SetLane(nullptr);
  task_->Notify();
}

Demand CopyLane::Plan() {
  if (task_->done()) return {};
  const absl::Status refused = state_.ok()
                                   ? task_->aborted(/*waiting=*/!input_.idle())
                                   : state_.status();
  if (!refused.ok()) {
    task_->Fail(refused, sink_, state_.ok() ? (*state_)->position() : 0);
    EndTask();
    return {};
  }
  if (PullInput()) return ComputeTail(**state_);
  const Demand demand = task_->Plan(**state_, sink_);
  if (task_->done()) EndTask();
  return demand;
}

void CopyLane::Complete(const absl::Status& status, ConstRows logits) {
  SessionState& state = **state_;
  if (!status.ok()) {
    state.Abandon();
    task_->Fail(status, sink_, state.position());
    EndTask();
    return;
  }
  if (logits.rows > 0) task_->OnLogits(logits);
  state.Commit();
  task_->OnCommitted(state, sink_);
  task_->Notify();
}

}  // namespace mneme
