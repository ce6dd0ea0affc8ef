// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_ACTIVE_CALLS_H_
#define MNEME_CLIENT_ACTIVE_CALLS_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace mneme::client {

// The calls a client has under way, so that all of them can be cancelled from
// another thread. Thread-safe.
//
// gRPC dials a lost server by itself, but sees the outcome only while somebody
// waits for the channel, else every five seconds; until then each call fails
// at once with what the last dial found. So whoever waits here waits for the
// channel.
class ActiveCalls {
 public:
  explicit ActiveCalls(std::shared_ptr<grpc::Channel> channel)
      : channel_(std::move(channel)) {}

  // Cancels what runs.
  void CancelRunning() ABSL_LOCKS_EXCLUDED(mutex_);
  // Cancels what runs, and whatever is registered from now on.
  void CancelAll() ABSL_LOCKS_EXCLUDED(mutex_);

  // How often something was cancelled so far; what takes several calls
  // compares this with what it was at its beginning.
  int64_t cancellations() ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits that long, or until the count is not `cancellations` any more, or
  // until a server that could not be reached can be.
  void Wait(absl::Duration duration, int64_t cancellations)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class ActiveCall;

  // If the server could not be reached when last dialled: sees what has come
  // of it since, for which it waits a moment at most.
  void LookForServer();

  const std::shared_ptr<grpc::Channel> channel_;
  absl::Mutex mutex_;
  int64_t cancellations_ ABSL_GUARDED_BY(mutex_) = 0;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);
};

// A context that is registered while this lives. To be made right before the
// call.
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
