// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session_events.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/runtime/notifier.h"

namespace mneme {
namespace {

bool IsLast(SessionEvent::Kind kind) {
  return kind == SessionEvent::Kind::kExpired ||
         kind == SessionEvent::Kind::kDeleted;
}

}  // namespace

struct SessionEvents::Queue {
  explicit Queue(StreamListener* listener) : notifier(listener) {}

  Notifier notifier;
  absl::Mutex mutex;
  std::deque<SessionEvent> events ABSL_GUARDED_BY(mutex);
  bool ended ABSL_GUARDED_BY(mutex) = false;
};

class SessionEvents::Watch final : public SessionWatch {
 public:
  explicit Watch(std::shared_ptr<Queue> queue) : queue_(std::move(queue)) {}
  ~Watch() override { queue_->notifier.Detach(); }

  absl::optional<SessionEvent> Poll() override {
    absl::MutexLock lock(&queue_->mutex);
    if (queue_->events.empty()) return absl::nullopt;
    SessionEvent event = std::move(queue_->events.front());
    queue_->events.pop_front();
    if (IsLast(event.kind)) queue_->ended = true;
    return event;
  }
  bool ended() const override {
    absl::MutexLock lock(&queue_->mutex);
    return queue_->ended;
  }

 private:
  const std::shared_ptr<Queue> queue_;
};

absl::StatusOr<std::unique_ptr<SessionWatch>> SessionEvents::Open(
    SessionEvent now, StreamListener* listener) {
  auto queue = std::make_shared<Queue>(listener);
  {
    absl::MutexLock lock(&queue->mutex);
    queue->events.push_back(std::move(now));
  }
  absl::MutexLock lock(&mutex_);
  queues_.erase(
      std::remove_if(queues_.begin(), queues_.end(),
                     [](const auto& other) { return other.expired(); }),
      queues_.end());
  if (queues_.size() >= kMaxWatches) {
    return WithReason(
        absl::ResourceExhaustedError(absl::StrCat(
            "the session has ", queues_.size(), " watches already")),
        {.reason = "QUEUE_FULL", .metadata = {}});
  }
  queues_.push_back(queue);
  return std::make_unique<Watch>(std::move(queue));
}

bool SessionEvents::watched() const {
  absl::MutexLock lock(&mutex_);
  return std::any_of(queues_.begin(), queues_.end(),
                     [](const auto& queue) { return !queue.expired(); });
}

void SessionEvents::Publish(const SessionEvent& event) {
  std::vector<std::shared_ptr<Queue>> queues;
  {
    absl::MutexLock lock(&mutex_);
    for (const std::weak_ptr<Queue>& weak : queues_) {
      if (std::shared_ptr<Queue> queue = weak.lock()) {
        queues.push_back(std::move(queue));
      }
    }
  }
  for (const std::shared_ptr<Queue>& queue : queues) {
    {
      absl::MutexLock lock(&queue->mutex);
      if (queue->events.size() >= kMaxWaiting && !IsLast(event.kind)) {
        queue->events.clear();
        queue->events.push_back(event);
        queue->events.back().kind = SessionEvent::Kind::kNow;
        queue->events.back().detail = "events were missed before this one";
      } else {
        queue->events.push_back(event);
      }
    }
    queue->notifier.Notify();
  }
}

}  // namespace mneme
