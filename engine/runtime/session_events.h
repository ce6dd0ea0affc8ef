// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_SESSION_EVENTS_H_
#define MNEME_ENGINE_RUNTIME_SESSION_EVENTS_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/runtime/streams.h"
#include "engine/runtime/types.h"

namespace mneme {

// Who watches a session. Thread-safe.
class SessionEvents {
 public:
  // Watches of one session, and events that wait for one of them: one that is
  // too slow is told how things are instead of what it missed.
  static constexpr size_t kMaxWatches = 64;
  static constexpr size_t kMaxWaiting = 64;

  // A watch that begins with `now`. RESOURCE_EXHAUSTED (QUEUE_FULL) if there
  // are too many.
  absl::StatusOr<std::unique_ptr<SessionWatch>> Open(SessionEvent now,
                                                     StreamListener* listener);

  bool watched() const;
  // REQUIRES: no lock held that a listener takes.
  void Publish(const SessionEvent& event);

 private:
  class Watch;
  struct Queue;

  mutable absl::Mutex mutex_;
  std::vector<std::weak_ptr<Queue>> queues_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SESSION_EVENTS_H_
