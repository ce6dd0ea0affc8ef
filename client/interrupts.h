// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_INTERRUPTS_H_
#define MNEME_CLIENT_INTERRUPTS_H_

#include <functional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace mneme::client {

// Who is asked when SIGINT comes, before it ends the program. Thread-safe.
class Interrupts {
 public:
  // Whether a handler took care of it.
  bool Offer() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return handler_ && handler_();
  }

 private:
  friend class InterruptHandler;

  absl::Mutex mutex_;
  std::function<bool()> handler_ ABSL_GUARDED_BY(mutex_);
};

// Handles interrupts while it lives; one at a time. `handler` is called on
// another thread and says whether it took care.
class InterruptHandler {
 public:
  InterruptHandler(Interrupts* interrupts, std::function<bool()> handler)
      : interrupts_(interrupts) {
    absl::MutexLock lock(&interrupts_->mutex_);
    interrupts_->handler_ = std::move(handler);
  }
  ~InterruptHandler() {
    absl::MutexLock lock(&interrupts_->mutex_);
    interrupts_->handler_ = nullptr;
  }
  InterruptHandler(const InterruptHandler&) = delete;
  InterruptHandler& operator=(const InterruptHandler&) = delete;

 private:
  Interrupts* const interrupts_;
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_INTERRUPTS_H_
