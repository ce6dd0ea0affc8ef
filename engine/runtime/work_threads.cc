// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/work_threads.h"

#include <utility>

namespace mneme {

WorkThreads::WorkThreads(int count) {
  for (int i = 0; i < count; ++i) {
    threads_.emplace_back([this] { Loop(); });
  }
}

void WorkThreads::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void WorkThreads::Post(std::function<void()> work) {
  absl::MutexLock lock(&mutex_);
  if (!stopping_) work_.push_back(std::move(work));
}

void WorkThreads::Loop() {
  auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !work_.empty();
  };
  while (true) {
    std::function<void()> work;
    {
      absl::MutexLock lock(&mutex_, absl::Condition(&ready));
      if (work_.empty()) return;
      work = std::move(work_.front());
      work_.pop_front();
    }
    work();
  }
}

}  // namespace mneme
