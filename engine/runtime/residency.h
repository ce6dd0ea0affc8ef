// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_RESIDENCY_H_
#define MNEME_ENGINE_RUNTIME_RESIDENCY_H_

#include <cstdint>
#include <map>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/base/byte_budget.h"
#include "engine/base/clock.h"
#include "engine/runtime/session.h"

namespace mneme {

// Which sessions are in memory: those in use, and of the others those that
// were used last, as far as there is room. Thread-safe.
class Residency {
 public:
  // `budget` outlives it.
  explicit Residency(ByteBudget* budget) : budget_(budget) {}

  // Nobody uses `session` any more: it is the last to leave.
  void OnIdle(const std::shared_ptr<Session>& session);
  // It was deleted.
  void Forget(Session& session);

  // Reserves, and for it puts out the sessions that were idle the longest.
  // RESOURCE_EXHAUSTED (RAM_BUDGET) if that does not suffice. Blocks.
  absl::StatusOr<ByteBudget::Reservation> Reserve(int64_t bytes,
                                                  const char* what);
  // Whether so much is free.
  bool HasRoom(int64_t bytes) const {
    return budget_->limit_bytes() - budget_->used_bytes() >= bytes;
  }
  // Puts sessions out until so much is free, or no idle one is left. Blocks.
  void MakeRoom(int64_t bytes);
  // Puts out all that are idle, or what it can of them until `end`. Blocks.
  void EvictAll(const Clock& clock, absl::Time end);
  // Puts sessions out until the budget can be `bytes`, and makes it so. False
  // if what is in use takes more. Blocks.
  bool SetLimit(int64_t bytes);

 private:
  // The last stamp so far: one that cannot be put out comes back with a later
  // one, and is not tried again by whoever stays below this.
  uint64_t LastStamp() const;
  // Puts out the session that was idle the longest, of those up to `stamp`.
  // False if none was.
  bool EvictOne(uint64_t stamp);

  ByteBudget* const budget_;
  mutable absl::Mutex mutex_;
  uint64_t stamp_ ABSL_GUARDED_BY(mutex_) = 0;
  // Hot ones by when they were last used, with Session::idle_stamp. One that
  // is used again stays until it is looked at.
  std::map<uint64_t, std::weak_ptr<Session>> idle_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_RESIDENCY_H_
