// SPDX-License-Identifier: Apache-2.0
#include "engine/base/thread_pool.h"

#include <atomic>
#include <cstdint>
#include <set>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {
 protected:
  ThreadPoolTest() : pool_(GetParam()) {}

  // Runs a section over `count` indices that calls each exactly once.
  void ExpectEachOnce(int64_t count) {
    std::vector<std::atomic<int>> calls(count);
    pool_.ParallelFor(count, [&](int64_t i, int worker) {
      EXPECT_GE(worker, 0);
      EXPECT_LT(worker, pool_.threads());
      calls[i].fetch_add(1, std::memory_order_relaxed);
    });
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(calls[i], 1) << "index " << i << " of " << count;
    }
  }

  ThreadPool pool_;
};

TEST_P(ThreadPoolTest, HasTheThreadsItWasAskedFor) {
  EXPECT_EQ(pool_.threads(), GetParam());
}

TEST_P(ThreadPoolTest, EveryIndexIsTakenExactlyOnce) {
  for (const int64_t count : {0, 1, 2, 3, 4, 5, 17, 1000}) {
    ExpectEachOnce(count);
  }
}

TEST_P(ThreadPoolTest, ManySectionsInARowLoseNothing) {
  for (int section = 0; section < 3000; ++section) {
    ExpectEachOnce(1 + section % 9);
    if (HasFatalFailure()) return;
  }
}

TEST_P(ThreadPoolTest, WhatASectionWroteIsSeenByTheNext) {
  std::vector<int64_t> values(64, 0);
  std::vector<int64_t> copies(64, 0);
  for (int64_t section = 1; section <= 500; ++section) {
    pool_.ParallelFor(64, [&](int64_t i, int) { values[i] = section + i; });
    pool_.ParallelFor(64, [&](int64_t i, int) { copies[i] = values[63 - i]; });
    for (int64_t i = 0; i < 64; ++i) ASSERT_EQ(copies[i], section + 63 - i);
  }
}

TEST_P(ThreadPoolTest, AWorkerNumberIsNeverInUseTwiceAtOnce) {
  std::vector<std::atomic<int>> busy(pool_.threads());
  for (int section = 0; section < 200; ++section) {
    pool_.ParallelFor(32, [&](int64_t, int worker) {
      EXPECT_EQ(busy[worker].fetch_add(1), 0);
      busy[worker].fetch_sub(1);
    });
  }
}

TEST_P(ThreadPoolTest, AllWorkersCanBeInASectionTogether) {
  // Each index waits for all the others, so one worker takes one.
  absl::Mutex mutex;
  int arrived = 0;
  std::set<int> workers;
  pool_.ParallelFor(pool_.threads(), [&](int64_t, int worker) {
    absl::MutexLock lock(&mutex);
    ++arrived;
    workers.insert(worker);
    auto all_here = [&] { return arrived == pool_.threads(); };
    mutex.Await(absl::Condition(&all_here));
  });
  EXPECT_EQ(static_cast<int>(workers.size()), pool_.threads());
}

TEST_P(ThreadPoolTest, SerialForGoesInOrderOnTheCallersThread) {
  std::vector<int64_t> order;
  pool_.SerialFor(5, [&](int64_t i, int worker) {
    EXPECT_EQ(worker, 0);
    order.push_back(i);
  });
  EXPECT_EQ(order, (std::vector<int64_t>{0, 1, 2, 3, 4}));
}

TEST_P(ThreadPoolTest, APoolThatNeverWorkedEnds) {
  const ThreadPool idle(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace mneme
