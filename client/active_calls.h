// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_ACTIVE_CALLS_H_
#define MNEME_CLIENT_ACTIVE_CALLS_H_

#include <grpcpp/client_context.h>

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace mneme::client {

// The calls a client has under way, so that all of them can be cancelled from
// another thread. Thread-safe.
class ActiveCalls {
 public:
  // Cancels what runs.
  void CancelRunning() ABSL_LOCKS_EXCLUDED(mutex_);
  // Cancels what runs, and whatever is registered from now on.
  void CancelAll() ABSL_LOCKS_EXCLUDED(mutex_);

  // How often something was cancelled so far; what takes several calls
  // compares this with what it was at its beginning.
  int64_t cancellations() ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits that long, or until the count is not `cancellations` any more.
  void Wait(absl::Duration duration, int64_t cancellations)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class ActiveCall;

  absl::Mutex mutex_;
  int64_t cancellations_ ABSL_GUARDED_BY(mutex_) = 0;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);
};

// A context that is registered while this lives.
class ActiveCall {
 public:
  explicit ActiveCall(ActiveCalls* calls);
  ~ActiveCall();
  ActiveCall(const ActiveCall&) = delete;
  ActiveCall& operator=(const ActiveCall&) = delete;

  grpc::ClientContext& context() { return context_; }

 private:
  ActiveCalls* const calls_;
  grpc::ClientContext context_;
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_ACTIVE_CALLS_H_
