// SPDX-License-Identifier: Apache-2.0
#include "engine/base/thread_pool.h"

#include <omp.h>

#include "engine/base/check.h"

namespace mneme {
namespace {

// About 20 us: longer than the serial stretch between two sections of a pass.
constexpr int kSpins = 4000;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  MNEME_CHECK(threads >= 1);
  workers_.reserve(threads - 1);
  for (int worker = 1; worker < threads; ++worker) {
    workers_.emplace_back([this, worker] { WorkerLoop(worker); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  section_.fetch_add(1, std::memory_order_release);
  section_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::TakeTasks(const Task& task, int64_t count, int worker) {
  for (int64_t i = next_.fetch_add(1, std::memory_order_relaxed); i < count;
       i = next_.fetch_add(1, std::memory_order_relaxed)) {
    task(i, worker);
  }
}

void ThreadPool::SerialFor(int64_t count, Task task) {
  omp_set_num_threads(1);  // a thread-local setting; cheap
  for (int64_t i = 0; i < count; ++i) task(i, 0);
}

void ThreadPool::ParallelFor(int64_t count, Task task) {
  if (workers_.empty() || count <= 1) {
    SerialFor(count, task);
    return;
  }
  omp_set_num_threads(1);
  task_ = &task;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  unfinished_.store(static_cast<int>(workers_.size()),
                    std::memory_order_relaxed);
  section_.fetch_add(1, std::memory_order_release);
  section_.notify_all();
  TakeTasks(task, count, 0);
  for (int spins = 0;; ++spins) {
    const int unfinished = unfinished_.load(std::memory_order_acquire);
    if (unfinished == 0) break;
    if (spins < kSpins) {
      Pause();
    } else {
      unfinished_.wait(unfinished, std::memory_order_acquire);
    }
  }
}

void ThreadPool::WorkerLoop(int worker) {
  omp_set_num_threads(1);
  uint32_t seen = 0;
  while (true) {
    int spins = 0;
    uint32_t section;
    while ((section = section_.load(std::memory_order_acquire)) == seen) {
      if (spins < kSpins) {
        ++spins;
        Pause();
      } else {
        section_.wait(seen, std::memory_order_acquire);
      }
    }
    seen = section;
    if (stopping_.load(std::memory_order_relaxed)) return;
    TakeTasks(*task_, count_, worker);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      unfinished_.notify_one();
    }
  }
}

}  // namespace mneme
