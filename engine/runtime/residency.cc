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

bool Residency::EvictOne() {
  while (true) {
    std::shared_ptr<Session> session;
    {
      absl::MutexLock lock(&mutex_);
      if (idle_.empty()) return false;
      session = idle_.begin()->second.lock();
      idle_.erase(idle_.begin());
      if (session != nullptr) session->idle_stamp = 0;
    }
    // One that is in use comes again when it is idle.
    if (session != nullptr && session->TryLeave()) return true;
  }
}

absl::StatusOr<ByteBudget::Reservation> Residency::Reserve(int64_t bytes,
                                                           const char* what) {
  while (true) {
    absl::StatusOr<ByteBudget::Reservation> reserved =
        budget_->Reserve(bytes, what);
    if (reserved.ok() || !EvictOne()) return reserved;
  }
}

void Residency::MakeRoom(int64_t bytes) {
  while (!HasRoom(bytes) && EvictOne()) {
  }
}

bool Residency::SetLimit(int64_t bytes) {
  while (!budget_->SetLimit(bytes)) {
    if (!EvictOne()) return false;
  }
  return true;
}

void Residency::Load(Session& session) {
  absl::StatusOr<ByteBudget::Reservation> reserved =
      Reserve(Session::HotBytes(session.served()), "a session");
  if (reserved.ok()) {
    session.LoadFrom(*std::move(reserved));
  } else {
    session.FailLoad(reserved.status());
  }
}

}  // namespace mneme
