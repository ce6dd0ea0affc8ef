// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_WAITING_CALLS_H_
#define MNEME_ENGINE_RUNTIME_WAITING_CALLS_H_

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace mneme {

// Counts the calls that wait until a session is loaded or quiet. Thread-safe.
class WaitingCalls {
 public:
  // One more, until all copies of what this returns are gone. It outlives them.
  std::shared_ptr<const void> Enter() {
    absl::MutexLock lock(&mutex_);
    ++count_;
    return std::shared_ptr<const void>(this, [this](const void*) {
      absl::MutexLock leaving(&mutex_);
      --count_;
    });
  }

  // Returns when there is none, or at `deadline`.
  void AwaitNone(absl::Time deadline) const {
    auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return count_ == 0;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithDeadline(absl::Condition(&none), deadline);
  }

 private:
  mutable absl::Mutex mutex_;
  int64_t count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_WAITING_CALLS_H_
