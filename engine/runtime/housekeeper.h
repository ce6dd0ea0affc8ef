// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_HOUSEKEEPER_H_
#define MNEME_ENGINE_RUNTIME_HOUSEKEEPER_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace mneme {

// A thread for what has to be done from time to time.
class Housekeeper {
 public:
  // Calls `tick` about every `period`, whatever the wall clock does.
  Housekeeper(std::chrono::milliseconds period, std::function<void()> tick);
  ~Housekeeper();
  Housekeeper(const Housekeeper&) = delete;
  Housekeeper& operator=(const Housekeeper&) = delete;

 private:
  void Loop();

  const std::chrono::milliseconds period_;
  const std::function<void()> tick_;

  // The standard library's: they wait by the monotonic clock.
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_HOUSEKEEPER_H_
