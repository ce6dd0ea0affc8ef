// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_WORK_THREADS_H_
#define MNEME_ENGINE_RUNTIME_WORK_THREADS_H_

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace mneme {

// Threads for work that may block. Thread-safe.
class WorkThreads {
 public:
  explicit WorkThreads(int count);
  ~WorkThreads() { Stop(); }
  WorkThreads(const WorkThreads&) = delete;
  WorkThreads& operator=(const WorkThreads&) = delete;

  // Nothing is done that is posted after Stop.
  void Post(std::function<void()> work);
  // What was posted has been done once it returns.
  void Stop();

 private:
  void Loop();

  absl::Mutex mutex_;
  std::deque<std::function<void()>> work_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_WORK_THREADS_H_
