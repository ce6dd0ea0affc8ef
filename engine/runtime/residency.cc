// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/residency.h"

#include <utility>

namespace mneme {

void Residency::OnIdle(const std::shared_ptr<Session>& session) {
  absl::MutexLock lock(&mutex_);
  if (session->idle_stamp != 0) idle_.erase(session->idle_stamp);
  session->idle_stamp = ++stamp_;
  idle_.emplace(stamp_, session);
}

void Residency::Forget(Session& session) {
  absl::MutexLock lock(&mutex_);
  if (session.idle_stamp != 0) idle_.erase(session.idle_stamp);
  session.idle_stamp = 0;
}

uint64_t Residency::LastStamp() const {
  absl::MutexLock lock(&mutex_);
  return stamp_;
}

bool Residency::EvictOne(uint64_t stamp) {
  while (true) {
    std::shared_ptr<Session> session;
    {
      absl::MutexLock lock(&mutex_);
      if (idle_.empty() || idle_.begin()->first > stamp) return false;
      session = idle_.begin()->second.lock();
      idle_.erase(idle_.begin());
      if (session != nullptr) session->idle_stamp = 0;
    }
    // One that is in use comes again when it is idle.
    if (session != nullptr && session->TryLeave()) return true;
  }
}

void Residency::EvictAll(const Clock& clock, absl::Time end) {
  const uint64_t last = LastStamp();
  while (clock.Now() < end && EvictOne(last)) {
  }
}

absl::StatusOr<ByteBudget::Reservation> Residency::Reserve(int64_t bytes,
                                                           const char* what) {
  const uint64_t last = LastStamp();
  while (true) {
    absl::StatusOr<ByteBudget::Reservation> reserved =
        budget_->Reserve(bytes, what);
    if (reserved.ok() || !EvictOne(last)) return reserved;
  }
}

void Residency::MakeRoom(int64_t bytes) {
  const uint64_t last = LastStamp();
  while (!HasRoom(bytes) && EvictOne(last)) {
  }
}

bool Residency::SetLimit(int64_t bytes) {
  const uint64_t last = LastStamp();
  while (!budget_->SetLimit(bytes)) {
    if (!EvictOne(last)) return false;
  }
  return true;
}

}  // namespace mneme
