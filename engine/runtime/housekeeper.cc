// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/housekeeper.h"

#include <utility>

namespace mneme {

Housekeeper::Housekeeper(std::chrono::milliseconds period,
                         std::function<void()> tick)
    : period_(period), tick_(std::move(tick)), thread_([this] { Loop(); }) {}

Housekeeper::~Housekeeper() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Housekeeper::Loop() {
  while (true) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (changed_.wait_for(lock, period_, [this] { return stopping_; })) {
        return;
      }
    }
    tick_();
  }
}

}  // namespace mneme
