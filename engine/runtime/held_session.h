// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_HELD_SESSION_H_
#define MNEME_ENGINE_RUNTIME_HELD_SESSION_H_

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/byte_budget.h"
#include "engine/runtime/session.h"
#include "engine/runtime/streams.h"

namespace mneme {

// The engine's only SessionHold. Keeps memory for a stream, too, so that nobody
// takes it before the stream is opened. Thread-safe.
class HeldSession final : public SessionHold {
 public:
  // `session` is held.
  HeldSession(std::shared_ptr<Session> session, const LoadReport& report)
      : session_(std::move(session)), report_(report) {}
  ~HeldSession() override { session_->Unhold(); }

  const LoadReport& report() const override { return report_; }

  const Session& session() const { return *session_; }

  // Keeps it until it is taken. False if there is none.
  bool KeepRoom(absl::StatusOr<ByteBudget::Reservation> room) {
    if (!room.ok()) return false;
    absl::MutexLock lock(&mutex_);
    room_ = *std::move(room);
    return true;
  }
  // What was kept for a stream: once, then it is empty.
  ByteBudget::Reservation TakeRoom() {
    absl::MutexLock lock(&mutex_);
    return std::exchange(room_, ByteBudget::Reservation());
  }

 private:
  const std::shared_ptr<Session> session_;
  const LoadReport report_;
  absl::Mutex mutex_;
  ByteBudget::Reservation room_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_HELD_SESSION_H_
