// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session_table.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace mneme {

void SessionTable::AddModel(const ServedModel& model) {
  absl::MutexLock lock(&mutex_);
  counts_[&model] = 0;
}

SessionTable::Retired SessionTable::RetireModel(const ServedModel& model,
                                                bool force) {
  absl::MutexLock lock(&mutex_);
  const auto count = counts_.find(&model);
  Retired retired;
  if (count == counts_.end()) return retired;
  retired.sessions = count->second;
  if (retired.sessions > 0 && !force) return retired;
  counts_.erase(count);
  for (auto it = sessions_.begin(); it != sessions_.end();) {
    if (&it->second->served() != &model) {
      ++it;
      continue;
    }
    retired.taken.push_back(std::move(it->second));
    it = sessions_.erase(it);
  }
  return retired;
}

absl::Status SessionTable::Insert(const std::shared_ptr<Session>& session) {
  absl::MutexLock lock(&mutex_);
  const auto count = counts_.find(&session->served());
  if (count == counts_.end()) {
    return absl::NotFoundError(
        absl::StrCat("model ", session->served().name, " is not loaded"));
  }
  if (!sessions_.emplace(session->id(), session).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("session ", session->id(), " exists already"));
  }
  ++count->second;
  return absl::OkStatus();
}

bool SessionTable::Contains(const std::string& id) const {
  absl::MutexLock lock(&mutex_);
  return sessions_.count(id) != 0;
}

absl::StatusOr<std::shared_ptr<Session>> SessionTable::Find(
    const std::string& id) const {
  absl::MutexLock lock(&mutex_);
  const auto it = sessions_.find(id);
  if (it != sessions_.end()) return it->second;
  const auto expired = expired_.find(id);
  if (expired != expired_.end()) {
    const std::string time = absl::FormatTime(
        absl::RFC3339_sec, expired->second, absl::UTCTimeZone());
    return WithReason(
        absl::NotFoundError(absl::StrCat("session ", id, " expired at ", time)),
        {.reason = "SESSION_EXPIRED", .metadata = {{"expire_time", time}}});
  }
  return absl::NotFoundError(absl::StrCat(
      "session ", absl::CHexEscape(id.substr(0, 128)), " is not there"));
}

void SessionTable::RemoveLocked(const Session& session) {
  --counts_.at(&session.served());
  sessions_.erase(session.id());
}

bool SessionTable::Remove(const std::shared_ptr<Session>& session) {
  absl::MutexLock lock(&mutex_);
  const auto it = sessions_.find(session->id());
  if (it == sessions_.end() || it->second != session) return false;
  RemoveLocked(*session);
  return true;
}

std::vector<std::shared_ptr<Session>> SessionTable::List(
    const std::string& after, int64_t limit) const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<Session>> page;
  for (auto it = sessions_.upper_bound(after);
       it != sessions_.end() && static_cast<int64_t>(page.size()) < limit;
       ++it) {
    page.push_back(it->second);
  }
  return page;
}

int64_t SessionTable::size() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int64_t>(sessions_.size());
}

int64_t SessionTable::CountOf(const ServedModel& model) const {
  absl::MutexLock lock(&mutex_);
  const auto count = counts_.find(&model);
  return count == counts_.end() ? 0 : count->second;
}

void SessionTable::ExpireAt(const std::shared_ptr<Session>& session,
                            absl::Time time) {
  if (time == absl::InfiniteFuture()) return;
  absl::MutexLock lock(&mutex_);
  expiries_.emplace(time, session);
}

std::vector<std::shared_ptr<Session>> SessionTable::TakeExpired(
    absl::Time now) {
  std::vector<std::shared_ptr<Session>> taken;
  absl::MutexLock lock(&mutex_);
  while (!expiries_.empty() && expiries_.begin()->first <= now) {
    const std::shared_ptr<Session> session = expiries_.begin()->second.lock();
    expiries_.erase(expiries_.begin());
    if (session == nullptr) continue;
    const auto it = sessions_.find(session->id());
    if (it == sessions_.end() || it->second != session) continue;
    const absl::Time next = session->ExpireIfDue(now);
    if (next == absl::InfinitePast()) {
      RemoveLocked(*session);
      if (expired_.insert_or_assign(session->id(), now).second) {
        tombstones_.push_back(session->id());
      }
      taken.push_back(session);
    } else if (next != absl::InfiniteFuture()) {
      expiries_.emplace(next, session);
    }
  }
  while (tombstones_.size() > kMaxTombstones) {
    expired_.erase(tombstones_.front());
    tombstones_.pop_front();
  }
  return taken;
}

}  // namespace mneme
