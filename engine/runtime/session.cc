// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"

namespace mneme {

namespace {

// Where the journal of a session ends that was found in a store. If its last
// record is damaged, that is told when the session is loaded.
SessionWrites::Place EndOf(const FoundSession& found) {
  const std::vector<StoredSnapshot>& ring = found.record.ring;
  SessionWrites::Place end{.seq = found.record.replay_seq,
                           .offset = ring.empty() ? 0 : ring.back().offset};
  if (!found.journal.has_value()) return end;
  end.seq = found.journal->next_seq;
  const absl::StatusOr<JournalRecord> last =
      DecodeJournalRecord(found.journal->last);
  if (last.ok()) end.offset = last->end_offset;
  return end;
}

absl::Time UpdateTimeOf(const FoundSession& found) {
  absl::Time time = found.record.update_time;
  if (!found.journal.has_value()) return time;
  const absl::StatusOr<JournalRecord> last =
      DecodeJournalRecord(found.journal->last);
  return last.ok() ? std::max(time, last->time) : time;
}

}  // namespace

absl::Status TakenOver(const std::string& id, int64_t epoch) {
  return WithReason(
      absl::AbortedError(absl::StrCat("session ", id, " was taken over")),
      {.reason = "TAKEN_OVER", .metadata = {{"epoch", absl::StrCat(epoch)}}});
}

std::string ModelKey(const ServedModel& model) {
  return absl::StrCat(model.name, "/", model.model->fingerprint());
}

Session::Session(Setup setup)
    : id_(setup.stored.record.id),
      uid_(setup.stored.record.uid),
      unit_(setup.stored.record.counts_tokens ? SessionUnit::kTokens
                                              : SessionUnit::kText),
      model_name_(setup.stored.record.model),
      model_key_(absl::StrCat(model_name_, "/",
                              setup.stored.record.model_fingerprint)),
      limits_(setup.limits),
      store_(setup.store),
      buffers_(setup.buffers),
      host_(setup.host),
      clock_(setup.clock),
      observer_(setup.observer),
      model_(std::move(setup.model)),
      index_(std::move(setup.index)),
      counted_(std::move(setup.counted)),
      record_(setup.stored.record),
      writes_(EndOf(setup.stored)) {
  absl::MutexLock lock(&mutex_);
  record_.update_time = UpdateTimeOf(setup.stored);
  last_use_ =
      clock_->Monotonic() -
      std::max(clock_->Now() - record_.update_time, absl::ZeroDuration());
  ReachSnapshot();
}

Session::~Session() {
  // What a lane and its task hold of each other, should they never be planned
  // again.
  for (const std::weak_ptr<Task>& copy : copies_) {
    const std::shared_ptr<Task> task = copy.lock();
    if (task != nullptr) task->SetLane(nullptr);
  }
}

int64_t Session::LabelBytes(const std::map<std::string, std::string>& labels) {
  int64_t bytes = 0;
  for (const auto& [key, value] : labels) {
    bytes += static_cast<int64_t>(key.size() + value.size()) + 96;
  }
  return bytes;
}

int64_t Session::IndexBytes(const SessionRecord& record) {
  // The object with its record, twice while one is on its way to the store,
  // the nodes of the tables that hold it, here and in the store, and what the
  // allocator adds to each.
  constexpr int64_t kNodes = 1216;
  const auto snapshots =
      static_cast<int64_t>(record.ring.size() + record.named.size() + 2);
  return static_cast<int64_t>(sizeof(Session)) + kNodes +
         2 * static_cast<int64_t>(record.id.size()) +
         static_cast<int64_t>(record.model.size()) + LabelBytes(record.labels) +
         snapshots * kSnapshotBytes;
}

absl::Status Session::FitIndex(int64_t more) {
  const int64_t bytes = IndexBytes(record_) + more;
  MNEME_RETURN_IF_ERROR(index_.Resize(bytes, "a session's entry"));
  return counted_.Resize(bytes, "a session's entry");
}

int64_t Session::HotBytes(const ServedModel& model) {
  constexpr int64_t kSmallThings = 16 << 10;
  return model.model->layout()->state_bytes() + History::kKeptBytes +
         Reply::kMaxBytes + InputQueue::kMaxPendingBytes +
         static_cast<int64_t>(sizeof(Hot)) + kSmallThings;
}

int64_t Session::TransferBytes(const ServedModel& model) {
  return HotBytes(model);  // all of a snapshot, once
}

absl::Status Session::CheckAlive() const {
  if (!deleted_) return absl::OkStatus();
  return WithReason(
      absl::NotFoundError(absl::StrCat("session ", id(), " was deleted")),
      {.reason = "SESSION_NOT_FOUND", .metadata = {}});
}

absl::Status Session::CheckOpen() const {
  MNEME_RETURN_IF_ERROR(CheckAlive());
  return closed_;
}

absl::Status Session::CheckHot() const {
  MNEME_RETURN_IF_ERROR(CheckOpen());
  if (hot_ != nullptr && place_ == Place::kHot) return absl::OkStatus();
  return WithReason(
      absl::UnavailableError(absl::StrCat(
          "session ", id(), " lost what was not stored and is loaded anew")),
      {.reason = "STORE_UNAVAILABLE", .metadata = {}});
}

int64_t Session::NextOffset() const {
  return hot_ != nullptr ? hot_->history.next_offset() : writes_.end().offset;
}

int64_t Session::AbsorbedOffset() const {
  if (hot_ == nullptr) return reach_.absorbed_offset;
  const int64_t absorbed =
      hot_->history.next_offset() -
      (hot_->input.idle() ? 0
                          : hot_->input.size() / hot_->history.unit_bytes());
  // Clients let go of what is absorbed where nothing is ever durable.
  return store_->durable() ? absorbed
                           : std::min(absorbed, writes_.durable().offset);
}

SessionInfo Session::InfoLocked() const {
  const bool hot = hot_ != nullptr && place_ != Place::kLoading;
  SessionInfo info;
  info.id = id();
  info.uid = uid();
  info.model = model_name_;
  info.model_fingerprint = record_.model_fingerprint;
  info.epoch = record_.epoch;
  info.unit = unit();
  info.position = reach_.position;
  info.absorbed_offset = hot ? AbsorbedOffset() : reach_.absorbed_offset;
  info.next_offset = hot ? NextOffset() : writes_.end().offset;
  info.durability = store_->durable() ? Durability::kSynced : Durability::kNone;
  if (store_->durable()) info.durable_offset = writes_.durable().offset;
  info.pending_tokens = reach_.tail_tokens;
  info.pending_bytes = reach_.pending_bytes;
  if (hot) info.pending_bytes = hot_->input.idle() ? hot_->input.size() : 0;
  if (model_ != nullptr) {
    info.state_bytes = model_->model->layout()->state_bytes();
  }
  info.labels = record_.labels;
  info.create_time = record_.create_time;
  info.update_time = record_.update_time;
  info.expire_time = ExpireTime();
  info.revision = record_.revision;
  info.tier = hot ? StateTier::kHot : StateTier::kCold;
  info.snapshot_interval_tokens = record_.snapshot_interval_tokens;
  info.pinned = record_.pinned;
  info.quarantine = record_.quarantine;
  if (!record_.quarantine.empty()) {
    info.condition = SessionCondition::kQuarantined;
  }
  if (const Task* const writing = CommittingTask(); writing != nullptr) {
    info.activity = writing->activity();
  } else if (writer_ != nullptr) {
    info.activity = SessionActivity::kAppending;
  }
  return info;
}

SessionInfo Session::Info() const {
  absl::MutexLock lock(&mutex_);
  return InfoLocked();
}

SessionRecord Session::record() const {
  absl::MutexLock lock(&mutex_);
  return record_;
}

bool Session::InfoAtRest(SessionInfo& info) const {
  absl::MutexLock lock(&mutex_);
  info = InfoLocked();
  if (place_ != Place::kCold || !record_.quarantine.empty()) {
    return place_ == Place::kCold;
  }
  if (!KeepsAll(writes_.end().seq)) return false;
  info.state_digest = record_.ring.back().state_digest;
  info.history_digest = record_.ring.back().history_digest;
  return true;
}

void Session::Tell(SessionEvent::Kind kind, std::string detail,
                   Afterwards& after) {
  if (!events_.watched()) return;
  after.events.push_back({.kind = kind,
                          .time = clock_->Now(),
                          .session = InfoLocked(),
                          .detail = std::move(detail)});
}

absl::StatusOr<std::unique_ptr<SessionWatch>> Session::Watch(
    StreamListener* listener) {
  absl::MutexLock lock(&mutex_);
  MNEME_RETURN_IF_ERROR(CheckAlive());
  return events_.Open({.kind = SessionEvent::Kind::kNow,
                       .time = clock_->Now(),
                       .session = InfoLocked(),
                       .detail = ""},
                      listener);
}

void Session::Do(Afterwards& after) {
  if (after.absorbed > 0) {
    observer_->OnAbsorbed(model_name_, after.absorbed);
  }
  for (const SessionEvent& event : after.events) events_.Publish(event);
  for (const std::shared_ptr<Task>& task : after.tasks) task->Notify();
  if (after.writer != nullptr) after.writer->notifier.Notify();
  for (const std::function<void()>& call : after.calls) call();
  if (after.wake) host_->Wake(shared_from_this());
  if (after.snapshot_due) host_->OnSnapshotDue(shared_from_this());
  if (after.idle) host_->OnIdle(shared_from_this());
}

void Session::NoteUse() {
  record_.update_time = clock_->Now();
  last_use_ = clock_->Monotonic();
}

bool Session::Lives() const {
  return writer_ != nullptr || !tasks_.empty() ||
         std::any_of(copies_.begin(), copies_.end(),
                     [](const auto& copy) { return !copy.expired(); });
}

absl::Time Session::ExpireTime() const {
  if (record_.ttl == absl::ZeroDuration()) return absl::InfiniteFuture();
  return (Lives() ? clock_->Now() : record_.update_time) + record_.ttl;
}

absl::Duration Session::ExpiresAtLocked() const {
  if (record_.ttl == absl::ZeroDuration()) return absl::InfiniteDuration();
  return (Lives() ? clock_->Monotonic() : last_use_) + record_.ttl;
}

absl::Duration Session::ExpiresAt() const {
  absl::MutexLock lock(&mutex_);
  return ExpiresAtLocked();
}

absl::Duration Session::ExpireIfDue(absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  const absl::Duration due = ExpiresAtLocked();
  if (due > now) return due;
  if (leased_ || place_ == Place::kLoading) {
    return now + absl::Seconds(1);  // someone looks at it
  }
  deleted_ = true;
  return -absl::InfiniteDuration();
}

bool Session::AwaitReadable() {
  auto readable = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !CheckOpen().ok() || place_ != Place::kHot ||
           (!leased_ && (settled() || stalled_));
  };
  ++readers_waiting_;
  mutex_.Await(absl::Condition(&readable));
  --readers_waiting_;
  return CheckOpen().ok() && place_ == Place::kHot;
}

absl::Status Session::WithState(
    absl::FunctionRef<void(const SessionState& state, std::string_view pending,
                           SessionInfo& info)>
        read,
    SessionInfo& info) {
  std::string pending;
  {
    absl::MutexLock lock(&mutex_);
    if (!AwaitReadable()) return CheckHot();
    leased_ = true;
    info = InfoLocked();
    // The account already holds what still waits in the queue.
    if (hot_->input.idle()) {
      info.history_digest = hot_->history.Digest();
      pending = std::string(hot_->input.bytes());
    }
  }
  read(*hot_->state, pending, info);
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    EndLease(after);
  }
  Do(after);
  return absl::OkStatus();
}

void Session::Close(const absl::Status& status) {
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    closed_ = status;
    FenceWriter(status, after);
    AnswerWaiters(status, after);
    RefuseQuiet(status, after);
    after.wake = hot_ != nullptr;
  }
  Do(after);
}

std::vector<std::shared_ptr<Task>> Session::Delete(SessionEvent::Kind kind) {
  std::vector<std::shared_ptr<Task>> running;
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    Tell(kind, "", after);
    deleted_ = true;
    const absl::Status deleted = CheckAlive();
    if (hot_ != nullptr && !leased_) {
      hot_->kept = {};
      hot_->input.Clear();
    }
    FenceWriter(deleted, after);
    AnswerWaiters(deleted, after);
    RefuseQuiet(deleted, after);
    FailEndings(deleted, after);
    for (const std::weak_ptr<Task>& copy : copies_) {
      std::shared_ptr<Task> task = copy.lock();
      if (task == nullptr) continue;
      task->Abort(deleted);
      running.push_back(std::move(task));
    }
    after.wake = true;
  }
  Do(after);
  return running;
}

}  // namespace mneme
