// SPDX-License-Identifier: Apache-2.0
//
// The streams of streams.h, over a session and its scheduler.
#ifndef MNEME_ENGINE_RUNTIME_SESSION_STREAMS_H_
#define MNEME_ENGINE_RUNTIME_SESSION_STREAMS_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/byte_budget.h"
#include "engine/base/status_macros.h"
#include "engine/runtime/generation_task.h"
#include "engine/runtime/reply.h"
#include "engine/runtime/scheduler.h"
#include "engine/runtime/scoring_task.h"
#include "engine/runtime/session.h"
#include "engine/runtime/streams.h"

namespace mneme {

// The tasks that run, and those whose streams are open.
class TaskRegistry {
 public:
  void Add(const std::shared_ptr<Task>& task) {
    absl::MutexLock lock(&mutex_);
    tasks_[task.get()] = task;
  }
  void Remove(const Task& task) {
    std::shared_ptr<Task> last;  // goes after the lock
    absl::MutexLock lock(&mutex_);
    const auto found = tasks_.find(&task);
    if (found == tasks_.end()) return;
    last = std::move(found->second);
    tasks_.erase(found);
  }
  std::vector<std::shared_ptr<Task>> List() const {
    absl::MutexLock lock(&mutex_);
    return ListLocked();
  }
  int64_t Count(SessionActivity activity) const {
    absl::MutexLock lock(&mutex_);
    return std::count_if(tasks_.begin(), tasks_.end(),
                         [activity](const auto& entry) {
                           return entry.second->activity() == activity;
                         });
  }
  // What is left of them at `deadline`, or nothing sooner.
  std::vector<std::shared_ptr<Task>> AwaitNone(absl::Time deadline) const {
    auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return tasks_.empty();
    };
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithDeadline(absl::Condition(&none), deadline);
    return ListLocked();
  }

 private:
  std::vector<std::shared_ptr<Task>> ListLocked() const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    std::vector<std::shared_ptr<Task>> tasks;
    for (const auto& [key, task] : tasks_) tasks.push_back(task);
    return tasks;
  }

  mutable absl::Mutex mutex_;
  std::map<const Task*, std::shared_ptr<Task>> tasks_ ABSL_GUARDED_BY(mutex_);
};

// Has what drives `task` planned again, if anything does.
inline void WakeLane(Scheduler& scheduler, const Task& task) {
  std::shared_ptr<Lane> lane = task.lane();
  if (lane != nullptr) scheduler.Wake(std::move(lane));
}

class SessionAppendStream final : public AppendStream {
 public:
  SessionAppendStream(std::shared_ptr<Session> session,
                      std::shared_ptr<SessionHold> hold,
                      std::shared_ptr<SessionWriter> writer,
                      AppendOpened opened, ByteBudget::Reservation reservation,
                      Scheduler* scheduler)
      : session_(std::move(session)),
        hold_(std::move(hold)),
        writer_(std::move(writer)),
        opened_(std::move(opened)),
        reservation_(std::move(reservation)),
        scheduler_(scheduler) {}
  ~SessionAppendStream() override { session_->CloseWriter(writer_); }

  const AppendOpened& opened() const override { return opened_; }
  absl::StatusOr<Taken> Write(const Segment& segment) override {
    absl::StatusOr<Taken> taken = session_->Write(*writer_, segment);
    if (taken.ok()) scheduler_->Wake(session_);
    return taken;
  }
  AppendProgress progress() const override {
    return session_->Progress(*writer_);
  }
  bool writable() const override { return session_->Writable(*writer_); }
  absl::Status status() const override {
    return session_->WriterStatus(*writer_);
  }

 private:
  const std::shared_ptr<Session> session_;
  const std::shared_ptr<SessionHold> hold_;
  const std::shared_ptr<SessionWriter> writer_;
  const AppendOpened opened_;
  const ByteBudget::Reservation reservation_;
  Scheduler* const scheduler_;
};

// A stream of a reply, whose task may have ended long ago.
class GenerationStream final : public Generation {
 public:
  // `task` is null if it is gone.
  GenerationStream(std::shared_ptr<SessionHold> hold,
                   std::shared_ptr<Reply> reply,
                   std::shared_ptr<Reply::Reader> reader,
                   std::shared_ptr<GenerationTask> task, Scheduler* scheduler,
                   TaskRegistry* registry)
      : hold_(std::move(hold)),
        reply_(std::move(reply)),
        reader_(std::move(reader)),
        task_(std::move(task)),
        scheduler_(scheduler),
        registry_(registry) {}
  ~GenerationStream() override {
    reader_->notifier.Detach();
    Disconnect(FinishReason::kCancelled);
  }

  absl::optional<GenerateEvent> Poll() override {
    bool resume = false;
    absl::optional<GenerateEvent> event = reply_->Poll(*reader_, &resume);
    if (resume && task_ != nullptr) WakeLane(*scheduler_, *task_);
    return event;
  }
  void Cancel() override {
    if (task_ == nullptr) return;
    task_->Cancel();
    WakeLane(*scheduler_, *task_);
  }
  void Disconnect(FinishReason reason) override {
    const Reply::Left left = reply_->Leave(reader_);
    if (task_ == nullptr) return;
    if (left == Reply::Left::kFinished) registry_->Remove(*task_);
    if (left == Reply::Left::kRunning &&
        task_->on_disconnect() == OnDisconnect::kCancel) {
      task_->CancelFor(reason);
      WakeLane(*scheduler_, *task_);
    }
  }

 private:
  const std::shared_ptr<SessionHold> hold_;
  const std::shared_ptr<Reply> reply_;
  const std::shared_ptr<Reply::Reader> reader_;
  const std::shared_ptr<GenerationTask> task_;
  Scheduler* const scheduler_;
  TaskRegistry* const registry_;
};

class ScoringStream final : public Scoring {
 public:
  ScoringStream(std::shared_ptr<SessionHold> hold,
                std::shared_ptr<ScoringTask> task, Scheduler* scheduler,
                TaskRegistry* registry)
      : hold_(std::move(hold)),
        task_(std::move(task)),
        scheduler_(scheduler),
        registry_(registry) {}
  ~ScoringStream() override {
    task_->Detach();
    Cancel();
    registry_->Remove(*task_);
  }

  absl::StatusOr<Offer> Write(const Payload& payload) override {
    MNEME_ASSIGN_OR_RETURN(const Offer offer, task_->Write(payload));
    WakeLane(*scheduler_, *task_);
    return offer;
  }
  void FinishInput() override {
    task_->FinishInput();
    WakeLane(*scheduler_, *task_);
  }
  absl::optional<ScoreEvent> Poll() override {
    bool resume = false;
    absl::optional<ScoreEvent> event = task_->Poll(&resume);
    if (resume) WakeLane(*scheduler_, *task_);
    return event;
  }
  void Cancel() override {
    task_->Cancel();
    WakeLane(*scheduler_, *task_);
  }

 private:
  const std::shared_ptr<SessionHold> hold_;
  const std::shared_ptr<ScoringTask> task_;
  Scheduler* const scheduler_;
  TaskRegistry* const registry_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SESSION_STREAMS_H_
