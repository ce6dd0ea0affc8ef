// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_SESSION_TABLE_H_
#define MNEME_ENGINE_RUNTIME_SESSION_TABLE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/runtime/session.h"

namespace mneme {

// The sessions of an engine by id, when they expire, and which have expired.
// Thread-safe.
class SessionTable {
 public:
  // Expired ids that are remembered, the latest.
  static constexpr size_t kMaxTombstones = 4096;

  // From now on sessions may be made with `model`, until it is retired; those
  // that are there get it.
  void AddModel(const std::shared_ptr<const ServedModel>& model);
  // No session can be bound to `model` any more. Without `force` that is only
  // so if it has none, else it stays as it is; with it, the sessions it has
  // are taken out. Returns how many there were, and those taken.
  struct Retired {
    int64_t sessions = 0;
    std::vector<std::shared_ptr<Session>> taken;
  };
  Retired RetireModel(const ServedModel& model, bool force);

  // ALREADY_EXISTS if the id is taken; NOT_FOUND if the model was retired, or
  // is not loaded yet, unless the session was found in a store.
  absl::Status Insert(const std::shared_ptr<Session>& session,
                      bool found = false);
  bool Contains(const std::string& id) const;

  // NOT_FOUND, with reason SESSION_EXPIRED and `expire_time` if it was there
  // and has expired.
  absl::StatusOr<std::shared_ptr<Session>> Find(const std::string& id) const;

  // False if it is not, or no longer, this session that has the id.
  bool Remove(const std::shared_ptr<Session>& session);

  // At most `limit` sessions with ids above `after`, by id.
  std::vector<std::shared_ptr<Session>> List(const std::string& after,
                                             int64_t limit) const;

  int64_t size() const;
  // Sessions that are bound to `model`.
  int64_t CountOf(const ServedModel& model) const;

  // Looks at the session when `time` has come, on the monotonic clock; what it
  // then says counts.
  void ExpireAt(const std::shared_ptr<Session>& session, absl::Duration time);
  // Takes out the sessions that have expired by `now`; by the wall clock that
  // is `wall`.
  std::vector<std::shared_ptr<Session>> TakeExpired(absl::Duration now,
                                                    absl::Time wall);

 private:
  void ExpireAtLocked(const std::shared_ptr<Session>& session,
                      absl::Duration time)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveLocked(const Session& session)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<Session>> sessions_
      ABSL_GUARDED_BY(mutex_);
  // By Session::model_key, of loaded models and of others.
  std::map<std::string, int64_t> counts_ ABSL_GUARDED_BY(mutex_);
  // Those that were added and not retired.
  std::set<std::string> models_ ABSL_GUARDED_BY(mutex_);
  // When to look at which: one entry each, under Session::next_look. A session
  // that was used since gets a later one when its time has come.
  std::multimap<absl::Duration, std::weak_ptr<Session>> expiries_
      ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Time> expired_ ABSL_GUARDED_BY(mutex_);
  // The ids in expired_, the oldest in front.
  std::deque<std::string> tombstones_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SESSION_TABLE_H_
