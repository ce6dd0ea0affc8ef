// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_HOUSEKEEPER_H_
#define MNEME_ENGINE_RUNTIME_HOUSEKEEPER_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace mneme {

// One thread for what takes longer than a thread of the server should wait
// and is no part of a pass, and for what has to be done from time to time.
// Thread-safe. What was posted is done before the
// destructor returns.
class Housekeeper {
 public:
  static constexpr size_t kMaxChores = 4096;

  // Calls `tick` about every `period`, between chores.
  Housekeeper(absl::Duration period, std::function<void()> tick);
  ~Housekeeper();
  Housekeeper(const Housekeeper&) = delete;
  Housekeeper& operator=(const Housekeeper&) = delete;

  // False if too much waits already.
  bool Post(std::function<void()> chore);

 private:
  void Loop();

  const absl::Duration period_;
  const std::function<void()> tick_;

  absl::Mutex mutex_;
  std::deque<std::function<void()>> chores_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_HOUSEKEEPER_H_
