// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/room_queue.h"

#include <iterator>
#include <utility>

namespace mneme {

RoomQueue::RoomQueue(Residency* residency, const Clock* clock)
    : residency_(residency), clock_(clock), thread_([this] { Loop(); }) {}

void RoomQueue::Ask(int64_t bytes, const char* what, Done done) {
  {
    absl::MutexLock lock(&mutex_);
    if (!stopping_) {
      asked_.push_back({.bytes = bytes,
                        .what = what,
                        .deadline = clock_->Monotonic() + kPatience,
                        .done = std::move(done)});
      return;
    }
  }
  done(residency_->Reserve(bytes, what));
}

void RoomQueue::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void RoomQueue::Loop() {
  std::vector<Asked> waiting;
  bool stopping = false;
  while (!stopping || !waiting.empty()) {
    {
      auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || !asked_.empty();
      };
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(
          absl::Condition(&ready),
          waiting.empty() ? absl::InfiniteDuration() : kRetry);
      std::move(asked_.begin(), asked_.end(), std::back_inserter(waiting));
      asked_.clear();
      stopping = stopping_;
    }
    std::vector<Asked> still;
    for (Asked& asked : waiting) {
      absl::StatusOr<ByteBudget::Reservation> reserved =
          residency_->Reserve(asked.bytes, asked.what);
      if (reserved.ok() || stopping || clock_->Monotonic() >= asked.deadline) {
        asked.done(std::move(reserved));
      } else {
        still.push_back(std::move(asked));
      }
    }
    waiting = std::move(still);
  }
}

}  // namespace mneme
