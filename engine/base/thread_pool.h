// SPDX-License-Identifier: Apache-2.0
//
// The workers that compute. A pass over the model is a sequence of short
// parallel sections with a barrier after each, so a section must cost
// microseconds to start and end: no queue, no lock, no allocation. The caller
// takes part as worker 0; the others spin briefly for the next section, then
// sleep on a futex.
//
// Each worker sets its own OpenMP team to one thread, because libgomp gives
// every calling thread a team of its own and oneDNN would start it.
#ifndef MNEME_ENGINE_BASE_THREAD_POOL_H_
#define MNEME_ENGINE_BASE_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace mneme {

// Used by one caller at a time.
class ThreadPool {
 public:
  // `threads` >= 1, the caller included.
  explicit ThreadPool(int threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(i, worker) for every i in [0, count), 0 <= worker < threads(),
  // each i once, and returns when all have ended. Which worker takes which i
  // is not fixed: a task's result must not depend on it.
  void ParallelFor(int64_t count,
                   absl::FunctionRef<void(int64_t i, int worker)> task);

  // The same on the calling thread alone, in order, as worker 0: for work too
  // small to share.
  void SerialFor(int64_t count,
                 absl::FunctionRef<void(int64_t i, int worker)> task);

 private:
  using Task = absl::FunctionRef<void(int64_t, int)>;

  void WorkerLoop(int worker);
  void TakeTasks(const Task& task, int64_t count, int worker);

  std::vector<std::thread> workers_;
  const Task* task_ = nullptr;  // of the open section
  int64_t count_ = 0;
  std::atomic<int64_t> next_{0};
  std::atomic<uint32_t> section_{0};  // raised to open a section
  std::atomic<int> unfinished_{0};    // workers still in the open section
  std::atomic<bool> stopping_{false};
};

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_THREAD_POOL_H_
