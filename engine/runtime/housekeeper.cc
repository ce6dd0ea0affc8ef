// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/housekeeper.h"

#include <utility>

#include "absl/time/clock.h"

namespace mneme {

Housekeeper::Housekeeper(absl::Duration period, std::function<void()> tick)
    : period_(period), tick_(std::move(tick)), thread_([this] { Loop(); }) {}

Housekeeper::~Housekeeper() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

bool Housekeeper::Post(std::function<void()> chore) {
  absl::MutexLock lock(&mutex_);
  if (chores_.size() >= kMaxChores) return false;
  chores_.push_back(std::move(chore));
  return true;
}

void Housekeeper::Loop() {
  auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !chores_.empty();
  };
  absl::Time next_tick = absl::Now() + period_;
  while (true) {
    std::function<void()> chore;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithDeadline(absl::Condition(&ready), next_tick);
      if (!chores_.empty()) {
        chore = std::move(chores_.front());
        chores_.pop_front();
      } else if (stopping_) {
        return;
      }
    }
    if (chore) chore();
    if (absl::Now() >= next_tick) {
      tick_();
      next_tick = absl::Now() + period_;
    }
  }
}

}  // namespace mneme
