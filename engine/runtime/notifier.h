// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_NOTIFIER_H_
#define MNEME_ENGINE_RUNTIME_NOTIFIER_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/runtime/streams.h"

namespace mneme {

// A listener that can be let go of while others want to tell it something.
// Thread-safe.
class Notifier {
 public:
  explicit Notifier(StreamListener* listener) : listener_(listener) {}

  // Tells the listener, unless it was let go. REQUIRES: the caller holds no
  // lock that the listener might want.
  void Notify() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (listener_ != nullptr) listener_->OnProgress();
  }

  // No call is running or will come once this returned.
  void Detach() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    listener_ = nullptr;
  }

 private:
  absl::Mutex mutex_;
  StreamListener* listener_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_NOTIFIER_H_
