// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/scheduler.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/log.h"
#include "engine/model/mixers/sequence_mixer.h"
#include "engine/runtime/batcher.h"
#include "engine/tensor/finite.h"

namespace mneme {
namespace {

// FAILED_PRECONDITION (NOT_FINITE) if what a pass wrote into the open unit of
// `state`, or its logits, left the range of f32: extreme weights or input.
// Such a unit must not become state, which it would spoil for good.
absl::Status CheckFinite(const SessionState& state, ConstRows logits) {
  bool finite = state.UnitIsFinite();
  for (int64_t row = 0; finite && row < logits.rows; ++row) {
    finite = AllFinite({logits.row(row), static_cast<size_t>(logits.cols)});
  }
  if (finite) return absl::OkStatus();
  const std::string position = absl::StrCat(state.computed_tokens());
  return WithReason(
      absl::FailedPreconditionError(
          absl::StrCat("the model's numbers leave the range of f32 behind "
                       "position ",
                       position, "; the state stays as it is there")),
      {.reason = "NOT_FINITE", .metadata = {{"position", position}}});
}

}  // namespace

Scheduler::Scheduler(const Clock* clock, Observer* observer)
    : clock_(clock), observer_(observer), thread_([this] { Loop(); }) {}

Scheduler::~Scheduler() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

absl::Status Scheduler::AddModel(const std::string& name,
                                 std::shared_ptr<const Model> model) {
  auto queue = std::make_unique<ModelQueue>();
  queue->name = name;
  queue->workspace =
      std::make_unique<Workspace>(model->workspace_bytes(model->max_rows()));
  if (!queue->workspace->ok()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("workspace of model ", name, ": the machine refused ",
                     model->workspace_bytes(model->max_rows()), " bytes"));
  }
  queue->model = std::move(model);
  absl::MutexLock lock(&mutex_);
  const Model* key = queue->model.get();
  queues_[key] = std::move(queue);
  models_changed_ = true;
  return absl::OkStatus();
}

void Scheduler::RemoveModel(const Model& model) {
  absl::MutexLock lock(&mutex_);
  queues_.at(&model)->removed = true;
  models_changed_ = true;
}

void Scheduler::TakeModels(std::vector<std::unique_ptr<ModelQueue>>& dropped) {
  models_changed_ = false;
  order_.clear();
  for (auto it = queues_.begin(); it != queues_.end();) {
    ModelQueue& queue = *it->second;
    if (queue.removed && queue.steps.empty() && queue.blocks.empty()) {
      dropped.push_back(std::move(it->second));
      it = queues_.erase(it);
      continue;
    }
    // What still waits ends within a turn or two.
    if (queue.removed) models_changed_ = true;
    order_.push_back(&queue);
    ++it;
  }
}

void Scheduler::Wake(std::shared_ptr<Lane> lane) {
  absl::MutexLock lock(&mutex_);
  if (lane->scheduled_) {
    lane->woken_again_ = true;
    return;
  }
  lane->scheduled_ = true;
  woken_.push_back(std::move(lane));
}

void Scheduler::WithoutPasses(absl::FunctionRef<void()> work) {
  absl::MutexLock lock(&pass_mutex_);
  work();
}

bool Scheduler::TakeWoken() {
  std::vector<std::unique_ptr<ModelQueue>> dropped;  // outside the lock
  {
    const bool idle = waiting_.load(std::memory_order_relaxed) == 0;
    auto ready = [this, idle]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return !idle || stopping_ || !woken_.empty() || models_changed_;
    };
    absl::MutexLock lock(&mutex_, absl::Condition(&ready));
    if (stopping_) return false;
    planning_.assign(std::make_move_iterator(woken_.begin()),
                     std::make_move_iterator(woken_.end()));
    woken_.clear();
    if (models_changed_) TakeModels(dropped);
  }
  for (std::shared_ptr<Lane>& lane : planning_) PlanLane(std::move(lane));
  planning_.clear();
  return true;
}

void Scheduler::PlanLane(std::shared_ptr<Lane> lane) {
  while (true) {
    const Demand demand = lane->Plan();
    if (!demand.none()) {
      for (ModelQueue* queue : order_) {
        if (queue->model.get() != &lane->model()) continue;
        auto& waiting =
            demand.kind == Demand::Kind::kStep ? queue->steps : queue->blocks;
        waiting.push_back({std::move(lane), demand});
        waiting_.fetch_add(1, std::memory_order_relaxed);
        return;
      }
    }
    absl::MutexLock lock(&mutex_);
    if (!std::exchange(lane->woken_again_, false)) {
      lane->scheduled_ = false;
      return;
    }
  }
}

void Scheduler::RunSteps(ModelQueue& queue) {
  if (queue.steps.empty()) return;
  const int64_t sessions = kMaxPassSlices;
  waiting_rows_.clear();
  for (const Waiting& waiting : queue.steps) {
    if (static_cast<int64_t>(waiting_rows_.size()) == sessions) break;
    waiting_rows_.push_back(waiting.demand.rows);
  }
  const size_t count = NextStepBatch(
      waiting_rows_,
      {.max_rows = queue.model->max_step_rows(), .max_sessions = sessions});
  for (size_t i = 0; i < count; ++i) {
    batch_.push_back(std::move(queue.steps.front()));
    queue.steps.pop_front();
  }
  RunPass(queue, ComputePath::kStep);
}

void Scheduler::RunBlock(ModelQueue& queue) {
  if (queue.blocks.empty()) return;
  batch_.push_back(std::move(queue.blocks.front()));
  queue.blocks.pop_front();
  RunPass(queue, ComputePath::kBlock);
}

void Scheduler::RunPass(ModelQueue& queue, ComputePath path) {
  waiting_.fetch_sub(static_cast<int64_t>(batch_.size()),
                     std::memory_order_relaxed);
  slices_.clear();
  int64_t rows = 0;
  int64_t logit_rows = 0;
  size_t begun = 0;
  for (Waiting& waiting : batch_) {
    const Demand demand = waiting.demand;
    if (!waiting.lane->Begin()) {
      PlanLane(std::move(waiting.lane));  // forgotten unless woken meanwhile
      continue;
    }
    SessionState& state = waiting.lane->state();
    slices_.push_back({.state = &state,
                       .tokens = state.tail(),
                       .prior_logits = demand.prior_logits,
                       .logits_begin = demand.logits_begin,
                       .logits_end = demand.logits_end,
                       .commit_segment = demand.commit_segment});
    rows += demand.rows;
    logit_rows += demand.logit_rows();
    if (&batch_[begun] != &waiting) batch_[begun] = std::move(waiting);
    ++begun;
  }
  batch_.resize(begun);
  if (!slices_.empty()) {
    const Workspace::Frame frame(*queue.workspace);
    const Rows logits =
        queue.model->LogitsScratch(path, logit_rows, *queue.workspace);
    const absl::Duration start = clock_->Monotonic();
    absl::Status status;
    {
      absl::MutexLock lock(&pass_mutex_);
      status = queue.model->Forward(path, slices_, *queue.workspace, logits);
    }
    if (status.ok()) {
      observer_->OnPass(
          queue.name,
          path == ComputePath::kBlock ? PassKind::kBlock : PassKind::kStep,
          rows, static_cast<int64_t>(begun), clock_->Monotonic() - start);
    } else {
      LogError("pass over model ", queue.name, " failed: ", status.ToString());
      observer_->OnPassFailed(queue.name);
    }
    int64_t first = 0;
    for (Waiting& done : batch_) {
      const int64_t count = done.demand.logit_rows();
      const ConstRows own(logits.row(first), count, logits.cols, logits.stride);
      absl::Status outcome = status;
      if (status.ok()) {
        outcome = CheckFinite(done.lane->state(), own);
        if (!outcome.ok()) observer_->OnPassFailed(queue.name);
      }
      done.lane->Complete(outcome, own);
      first += count;
    }
  }
  for (Waiting& done : batch_) PlanLane(std::move(done.lane));
  batch_.clear();
}

void Scheduler::Loop() {
  while (TakeWoken()) {
    for (ModelQueue* queue : order_) {
      RunSteps(*queue);
      RunBlock(*queue);
    }
  }
}

}  // namespace mneme
