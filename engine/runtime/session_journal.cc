// SPDX-License-Identifier: Apache-2.0
//
// What a session writes to its store, and what becomes of it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/wait_for.h"
#include "engine/runtime/requests.h"
#include "engine/runtime/session.h"

namespace mneme {
namespace {

// Journal bytes behind a snapshot from where a new one is due whatever the
// number of their tokens: what a load has to hold while it replays.
constexpr int64_t kSnapshotJournalBytes = 1 << 20;

using InfoDone = std::function<void(absl::StatusOr<SessionInfo>)>;

// Tells `done` of the session, once that is stored.
SessionStore::Done WhenStored(SessionInfo info, InfoDone done) {
  return [info = std::move(info),
          done = std::move(done)](const absl::Status& status) {
    if (status.ok()) {
      done(info);
    } else {
      done(status);
    }
  };
}

}  // namespace

void Session::ReachSnapshot() {
  reach_ = {};
  if (record_.ring.empty()) return;
  const StoredSnapshot& last = record_.ring.back();
  reach_ = {.position = last.position,
            .tail_tokens = last.pending_tokens,
            .pending_bytes = last.pending_bytes,
            .absorbed_offset = last.offset};
}

void Session::Create(absl::optional<RememberedRequest> request,
                     SessionStore::Done done) {
  absl::MutexLock lock(&mutex_);
  StoreWrite write = writes_.Next(uid());
  write.drop_journal_from.reset();  // there is nothing yet
  write.create = true;
  PutRecord(std::move(write), writes_.end(), std::move(request),
            std::move(done));
}

SessionRecord& Session::EditRecord() {
  writes_.NoteStored(record_);
  return record_;
}

void Session::Submit(StoreWrite write, const SessionWrites::Place& end,
                     SessionStore::Done done) {
  const uint64_t number = writes_.Add(write, end);
  store_->Write(std::move(write),
                [weak = weak_from_this(), number,
                 done = std::move(done)](const absl::Status& status) {
                  const std::shared_ptr<Session> self = weak.lock();
                  if (self != nullptr) self->OnStored(number, status);
                  if (done != nullptr) done(status);
                });
}

void Session::Journal(std::variant<InputRecord, AskRecord, SaidRecord> body,
                      int64_t units,
                      absl::optional<RememberedRequest> request) {
  const SessionWrites::Place begin = writes_.end();
  const SessionWrites::Place end{.seq = begin.seq + 1,
                                 .offset = begin.offset + units};
  StoreWrite write = writes_.Next(uid());
  write.append.push_back(
      {.seq = begin.seq,
       .payload = EncodeJournalRecord({.time = clock_->Now(),
                                       .offset = begin.offset,
                                       .end_offset = end.offset,
                                       .body = std::move(body)})});
  write.request = std::move(request);
  journal_bytes_ += AppendedBytes(write);
  Submit(std::move(write), end);
}

void Session::JournalSaid(const Task* ended) {
  SaidRecord said{.tokens = std::exchange(said_, {})};
  absl::optional<RememberedRequest> request;
  if (ended != nullptr) {
    request = ended->DescribeRequest(clock_->Now());
    said.end = ended->DescribeEnd();
    said.end->computed_tokens = hot_->state->computed_tokens();
  }
  int64_t bytes = 0;
  for (const TakenToken& token : said.tokens) {
    bytes += static_cast<int64_t>(token.bytes.size());
  }
  Journal(std::move(said), bytes / hot_->history.unit_bytes(),
          std::move(request));
}

void Session::PutRecord(absl::optional<RememberedRequest> request,
                        SessionStore::Done done) {
  PutRecord(writes_.Next(uid()), writes_.end(), std::move(request),
            std::move(done));
}

void Session::PutRecord(StoreWrite write, const SessionWrites::Place& end,
                        absl::optional<RememberedRequest> request,
                        SessionStore::Done done) {
  write.record = record_;
  write.request = std::move(request);
  Submit(std::move(write), end, std::move(done));
}

void Session::OnStored(uint64_t write, const absl::Status& status) {
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    if (deleted_ || writes_.GivenUp(write)) return;
    if (!status.ok()) {
      Break(status, after);
    } else {
      writes_.Settle(write);
      const SessionWrites::Place& durable = writes_.durable();
      if (asking_ == Asking::kJournaling && durable.seq > ask_seq_) {
        asking_ = Asking::kJournaled;
        after.wake = true;
      }
      while (!endings_.empty() && endings_.front().seq < durable.seq) {
        Ending ending = std::move(endings_.front());
        endings_.pop_front();
        ending.task->Settle(absl::OkStatus(),
                            store_->durable() ? durable.offset : 0);
        after.tasks.push_back(std::move(ending.task));
      }
      after.writer = writer_;
    }
    after.idle = Idle();
  }
  Do(after);
}

void Session::Break(const absl::Status& status, Afterwards& after) {
  if (leased_ || (place_ == Place::kLoading && hot_ == nullptr)) {
    broken_ = status;
    return;
  }
  LogWarning("session ", id(), ": ", status.ToString());
  FenceWriter(status, after);
  AbandonTasks(status, status, after);
  FailEndings(status, after);
  RefuseQuiet(status, after);
  AnswerWaiters(status, after);
  if (hot_ != nullptr) DropHot(after);
  said_.clear();
  ++run_;
  writes_.GiveUp(record_);
  FitIndex(0).IgnoreError();  // it takes no more than before
  ReachSnapshot();
  place_ = Place::kCold;
}

void Session::FailEndings(const absl::Status& status, Afterwards& after) {
  for (Ending& ending : endings_) {
    ending.task->Settle(status, 0);
    after.tasks.push_back(std::move(ending.task));
  }
  endings_.clear();
}

void Session::DropHot(Afterwards& after) {
  AbandonSuspended(after);
  reach_.absorbed_offset = AbsorbedOffset();
  reach_.pending_bytes = hot_->input.idle() ? hot_->input.size() : 0;
  hot_.reset();
  place_ = Place::kCold;
  stalled_ = false;
  planned_ = false;
  snapshot_wanted_ = false;
}

void Session::RefuseQuiet(const absl::Status& status, Afterwards& after) {
  for (std::function<void(absl::Status)>& work : quiet_) {
    after.calls.push_back([work = std::move(work), status] { work(status); });
  }
  quiet_.clear();
}

void Session::Quarantine(const absl::Status& status,
                         const std::string& good_snapshot, Afterwards& after) {
  LogError("session ", id(), " is quarantined: ", status.ToString());
  observer_->OnSessionEvent(model_name_, SessionEventKind::kQuarantine);
  SessionRecord& record = EditRecord();
  record.quarantine = std::string(status.message());
  record.good_snapshot = good_snapshot;
  ++record.revision;
  PutRecord();
  Tell(SessionEvent::Kind::kQuarantined, record.quarantine, after);
}

absl::Status Session::CheckWhole() const {
  if (record_.quarantine.empty()) return absl::OkStatus();
  ErrorReason reason{.reason = "SESSION_QUARANTINED", .metadata = {}};
  std::string advice = "; delete it or reset it";
  if (!record_.good_snapshot.empty()) {
    reason.metadata.emplace_back("snapshot", record_.good_snapshot);
    advice = absl::StrCat("; it can be rolled back to its last good snapshot, ",
                          record_.good_snapshot);
  }
  return WithReason(
      absl::DataLossError(absl::StrCat(
          "session ", id(), " is quarantined: ", record_.quarantine, advice)),
      std::move(reason));
}

bool Session::SnapshotDue() const {
  if (place_ != Place::kHot || leased_ || deleted_ || snapshot_wanted_ ||
      asking_ != Asking::kNo || hot_->suspended != nullptr ||
      hot_->replay.has_value() || writes_.end().seq == record_.replay_seq) {
    return false;
  }
  const int64_t position =
      record_.ring.empty() ? 0 : record_.ring.back().position;
  const int64_t interval = record_.snapshot_interval_tokens > 0
                               ? record_.snapshot_interval_tokens
                               : limits_.snapshot_interval_tokens;
  return (reach_.position - position >= interval ||
          journal_bytes_ >= kSnapshotJournalBytes) &&
         clock_->Monotonic() >= next_snapshot_;
}

bool Session::KeepsAll(uint64_t seq) const {
  if (record_.ring.empty()) return false;
  const StoredSnapshot& last = record_.ring.back();
  return last.next_seq == seq && !last.state_digest.empty();
}

void Session::AddSnapshot(StoredSnapshot& snapshot,
                          absl::optional<RememberedRequest> request,
                          SessionStore::Done done) {
  SessionRecord& record = EditRecord();
  StoreWrite write = writes_.Next(uid());
  if (!snapshot.name.empty()) record.named[snapshot.name] = snapshot;
  const bool outdated =
      !record.ring.empty() && record.ring.back().next_seq > snapshot.next_seq;
  if (!outdated && !KeepsAll(snapshot.next_seq)) {
    // The same as the last, but for what waited then.
    if (!record.ring.empty() &&
        record.ring.back().next_seq == snapshot.next_seq) {
      record.ring.pop_back();
    }
    journal_bytes_ = 0;
    record.replay_seq = snapshot.next_seq;
    record.arithmetic_level = model_->model->arithmetic_level();
    record.ring.push_back(snapshot);
    record.ring.back().name.clear();
    const size_t kept = record.ring.size();
    while (static_cast<int64_t>(record.ring.size()) > limits_.snapshots_kept ||
           (record.ring.size() > 1 && !CheckQuota(0).ok())) {
      record.ring.erase(record.ring.begin());
    }
    if (record.ring.size() < kept) {
      record.start_seq.reset();
      write.drop_journal_before = record.ring.front().next_seq;
    }
  }
  if (snapshot.name.empty()) snapshot = record.ring.back();
  PutRecord(std::move(write), writes_.end(), std::move(request),
            std::move(done));
}

void Session::Update(const UpdateSessionOptions& options,
                     std::function<void(absl::StatusOr<SessionInfo>)> done) {
  Afterwards after;
  absl::Status refused;
  {
    absl::MutexLock lock(&mutex_);
    refused = CheckAlive();
    if (refused.ok()) refused = CheckRevision(options.revision);
    if (refused.ok() && options.labels.has_value()) {
      refused = FitIndex(LabelBytes(*options.labels));
    }
    if (refused.ok()) {
      SessionRecord& record = EditRecord();
      if (options.labels.has_value()) {
        record.labels = *options.labels;
        FitIndex(0).IgnoreError();  // it is less than with both
      }
      if (options.ttl.has_value()) record.ttl = *options.ttl;
      if (options.snapshot_interval_tokens.has_value()) {
        record.snapshot_interval_tokens = *options.snapshot_interval_tokens;
      }
      if (options.pinned.has_value()) record.pinned = *options.pinned;
      ++record.revision;
      NoteUse();
      const SessionInfo info = InfoLocked();
      Tell(SessionEvent::Kind::kUpdated, "", after);
      after.idle = Idle();
      PutRecord(Remember(options.request, info, clock_->Now()),
                WhenStored(info, done));
    }
  }
  Do(after);
  if (!refused.ok()) done(refused);
}

void Session::RemoveStored(
    const DeleteOptions& options,
    std::function<void(absl::StatusOr<SessionInfo>)> done) {
  absl::Status refused;
  {
    absl::MutexLock lock(&mutex_);
    refused = CheckAlive();
    if (refused.ok()) refused = CheckRevision(options.revision);
    if (refused.ok()) {
      StoreWrite write{.uid = uid(), .remove = true};
      const SessionInfo info = InfoLocked();
      write.request = Remember(options.request, info, clock_->Now());
      Submit(std::move(write), writes_.end(), WhenStored(info, done));
    }
  }
  if (!refused.ok()) done(refused);
}

absl::Status Session::CheckRevision(absl::optional<int64_t> revision) const {
  if (!revision.has_value() || *revision == record_.revision) {
    return absl::OkStatus();
  }
  return WithReason(absl::AbortedError(absl::StrCat(
                        "session ", id(), " was changed by someone else")),
                    {.reason = "ETAG_MISMATCH", .metadata = {}});
}

}  // namespace mneme
