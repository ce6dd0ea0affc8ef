// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/housekeeper.h"

#include <utility>

namespace mneme {

Housekeeper::Housekeeper() : thread_([this] { Loop(); }) {}

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
  while (true) {
    std::function<void()> chore;
    {
      absl::MutexLock lock(&mutex_, absl::Condition(&ready));
      if (chores_.empty()) return;  // only when stopping
      chore = std::move(chores_.front());
      chores_.pop_front();
    }
    chore();
  }
}

}  // namespace mneme
