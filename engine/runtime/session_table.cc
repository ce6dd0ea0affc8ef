// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session_table.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace mneme {

void SessionTable::AddModel(const std::shared_ptr<const ServedModel>& model) {
  std::vector<std::shared_ptr<Session>> found;
  const std::string key = ModelKey(*model);
  {
    absl::MutexLock lock(&mutex_);
    models_.insert(key);
    if (counts_[key] == 0) return;
    for (const auto& [id, session] : sessions_) {
      if (session->model_key() == key) found.push_back(session);
    }
  }
  for (const std::shared_ptr<Session>& session : found) {
    // It is of this model, so nothing can be wrong.
    session->Bind(model).IgnoreError();
  }
}

SessionTable::Retired SessionTable::RetireModel(const ServedModel& model,
                                                bool force) {
  const std::string key = ModelKey(model);
  absl::MutexLock lock(&mutex_);
  Retired retired;
  if (models_.count(key) == 0) return retired;
  retired.sessions = counts_[key];
  if (retired.sessions > 0 && !force) return retired;
  models_.erase(key);
  counts_.erase(key);
  for (auto it = sessions_.begin(); it != sessions_.end();) {
    if (it->second->model_key() != key) {
      ++it;
      continue;
    }
    retired.taken.push_back(std::move(it->second));
    it = sessions_.erase(it);
  }
  return retired;
}

absl::Status SessionTable::Insert(const std::shared_ptr<Session>& session,
                                  bool found) {
  absl::MutexLock lock(&mutex_);
  if (!found && models_.count(session->model_key()) == 0) {
    return absl::NotFoundError(
        absl::StrCat("model ", session->model_name(), " is not loaded"));
  }
  if (!sessions_.emplace(session->id(), session).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("session ", session->id(), " exists already"));
  }
  ++counts_[session->model_key()];
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
  --counts_.at(session.model_key());
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
  const auto count = counts_.find(ModelKey(model));
  return count == counts_.end() ? 0 : count->second;
}

void SessionTable::ExpireAt(const std::shared_ptr<Session>& session,
                            absl::Duration time) {
  absl::MutexLock lock(&mutex_);
  ExpireAtLocked(session, time);
}

void SessionTable::ExpireAtLocked(const std::shared_ptr<Session>& session,
                                  absl::Duration time) {
  // An earlier look finds out when the next one is due.
  if (time >= session->next_look) return;
  const auto [first, last] = expiries_.equal_range(session->next_look);
  for (auto entry = first; entry != last; ++entry) {
    if (entry->second.lock() != session) continue;
    expiries_.erase(entry);
    break;
  }
  session->next_look = time;
  expiries_.emplace(time, session);
}

std::vector<std::shared_ptr<Session>> SessionTable::TakeExpired(
    absl::Duration now, absl::Time wall) {
  std::vector<std::shared_ptr<Session>> taken;
  absl::MutexLock lock(&mutex_);
  while (!expiries_.empty() && expiries_.begin()->first <= now) {
    const std::shared_ptr<Session> session = expiries_.begin()->second.lock();
    expiries_.erase(expiries_.begin());
    if (session == nullptr) continue;
    session->next_look = absl::InfiniteDuration();
    const auto it = sessions_.find(session->id());
    if (it == sessions_.end() || it->second != session) continue;
    const absl::Duration next = session->ExpireIfDue(now);
    if (next == -absl::InfiniteDuration()) {
      RemoveLocked(*session);
      if (expired_.insert_or_assign(session->id(), wall).second) {
        tombstones_.push_back(session->id());
      }
      taken.push_back(session);
    } else {
      ExpireAtLocked(session, next);
    }
  }
  while (tombstones_.size() > kMaxTombstones) {
    expired_.erase(tombstones_.front());
    tombstones_.pop_front();
  }
  return taken;
}

}  // namespace mneme
