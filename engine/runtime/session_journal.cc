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

int64_t AppendedBytes(const StoreWrite& write) {
  int64_t bytes = 0;
  for (const JournalEntry& entry : write.append) {
    bytes += static_cast<int64_t>(entry.payload.size());
  }
  return bytes;
}

}  // namespace

void Session::RestAt(const SessionRecord& record,
                     const absl::optional<JournalEnd>& journal) {
  reach_ = {};
  next_seq_ = record.replay_seq;
  if (!record.ring.empty()) {
    const StoredSnapshot& last = record.ring.back();
    reach_ = {.position = last.position,
              .tail_tokens = last.pending_tokens,
              .pending_bytes = last.pending_bytes,
              .absorbed_offset = last.offset,
              .next_offset = last.offset,
              .durable_offset = last.offset,
              .journaled_offset = last.offset};
  }
  if (!journal.has_value()) return;
  next_seq_ = journal->next_seq;
  // A damaged end is found when the session is loaded.
  const absl::StatusOr<JournalRecord> end = DecodeJournalRecord(journal->last);
  if (!end.ok()) return;
  reach_.next_offset = end->end_offset;
  reach_.durable_offset = end->end_offset;
  reach_.journaled_offset = end->end_offset;
  record_.update_time = std::max(record_.update_time, end->time);
}

void Session::Create(absl::optional<RememberedRequest> request,
                     SessionStore::Done done) {
  absl::MutexLock lock(&mutex_);
  chained_ = true;  // there is nothing behind which it could go
  PutRecord(std::move(request), std::move(done));
}

SessionRecord& Session::EditRecord() {
  if (!stored_record_.has_value()) stored_record_ = record_;
  return record_;
}

StoreWrite Session::NextWrite() {
  StoreWrite write{.uid = uid()};
  if (!std::exchange(chained_, true)) write.drop_journal_from = next_seq_;
  return write;
}

void Session::Submit(StoreWrite write, SessionStore::Done done) {
  const int64_t bytes = AppendedBytes(write);
  ++unstored_writes_;
  unstored_bytes_ += bytes;
  store_->Write(std::move(write),
                [weak = weak_from_this(), run = run_, seq = next_seq_,
                 offset = reach_.journaled_offset, bytes,
                 done = std::move(done)](const absl::Status& status) {
                  const std::shared_ptr<Session> self = weak.lock();
                  if (self != nullptr)
                    self->OnStored(run, seq, offset, bytes, status);
                  if (done != nullptr) done(status);
                });
}

void Session::Journal(std::variant<InputRecord, AskRecord, SaidRecord> body,
                      int64_t units,
                      absl::optional<RememberedRequest> request) {
  JournalRecord record{.time = clock_->Now(),
                       .offset = reach_.journaled_offset,
                       .end_offset = reach_.journaled_offset + units,
                       .body = std::move(body)};
  StoreWrite write = NextWrite();
  write.append.push_back(
      {.seq = next_seq_++, .payload = EncodeJournalRecord(record)});
  journal_bytes_ += AppendedBytes(write);
  write.request = std::move(request);
  reach_.journaled_offset = record.end_offset;
  Submit(std::move(write));
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
  StoreWrite write = NextWrite();
  write.record = record_;
  write.request = std::move(request);
  Submit(std::move(write), std::move(done));
}

void Session::OnStored(uint64_t run, uint64_t seq, int64_t offset,
                       int64_t bytes, const absl::Status& status) {
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    if (run != run_ || deleted_) return;
    --unstored_writes_;
    unstored_bytes_ -= bytes;
    if (!status.ok()) {
      Break(status, after);
    } else {
      durable_seq_ = std::max(durable_seq_, seq);
      reach_.durable_offset = std::max(reach_.durable_offset, offset);
      if (place_ == Place::kCold) reach_.next_offset = reach_.durable_offset;
      if (unstored_writes_ == 0) stored_record_.reset();
      if (asking_ == Asking::kJournaling && seq > ask_seq_) {
        asking_ = Asking::kJournaled;
        after.wake = true;
      }
      while (!endings_.empty() && endings_.front().seq < seq) {
        Ending ending = std::move(endings_.front());
        endings_.pop_front();
        ending.task->Settle(absl::OkStatus(), store_->durable() ? offset : 0);
        after.tasks.push_back(std::move(ending.task));
      }
      after.writer = writer_;
    }
    if (!InUse() && holds_ == 0 && place_ == Place::kHot) after.idle = true;
  }
  Do(after);
}

void Session::Break(const absl::Status& status, Afterwards& after) {
  if (leased_) {
    broken_ = status;
    return;
  }
  LogWarning("session ", id(), ": ", status.ToString());
  ++run_;
  chained_ = false;
  unstored_writes_ = 0;
  unstored_bytes_ = 0;
  said_.clear();
  FenceWriter(status, after);
  AbandonTasks(status, status, after);
  for (Ending& ending : endings_) {
    ending.task->Settle(status, 0);
    after.tasks.push_back(std::move(ending.task));
  }
  endings_.clear();
  for (std::function<void(absl::Status)>& work : quiet_) {
    after.calls.push_back([work = std::move(work), status] { work(status); });
  }
  quiet_.clear();
  AnswerWaiters(status, after);
  if (stored_record_.has_value()) {
    record_ = *std::exchange(stored_record_, absl::nullopt);
  }
  const int64_t durable_offset = reach_.durable_offset;
  const bool journaled = durable_seq_ > record_.replay_seq;
  RestAt(record_, absl::nullopt);
  if (journaled) {
    next_seq_ = durable_seq_;
    reach_.next_offset = durable_offset;
    reach_.durable_offset = durable_offset;
    reach_.journaled_offset = durable_offset;
  }
  hot_.reset();
  place_ = Place::kCold;
  stalled_ = false;
  planned_ = false;
  snapshot_wanted_ = false;
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
      hot_->replay.has_value() || next_seq_ == record_.replay_seq) {
    return false;
  }
  const int64_t position =
      record_.ring.empty() ? 0 : record_.ring.back().position;
  const int64_t interval = record_.snapshot_interval_tokens > 0
                               ? record_.snapshot_interval_tokens
                               : limits_.snapshot_interval_tokens;
  return reach_.position - position >= interval ||
         journal_bytes_ >= kSnapshotJournalBytes;
}

bool Session::KeepsAll(uint64_t seq) const {
  if (record_.ring.empty()) return false;
  const StoredSnapshot& last = record_.ring.back();
  return last.next_seq == seq && !last.state_digest.empty();
}

void Session::AddSnapshot(StoredSnapshot snapshot,
                          absl::optional<RememberedRequest> request,
                          SessionStore::Done done) {
  SessionRecord& record = EditRecord();
  StoreWrite write = NextWrite();
  if (!snapshot.name.empty()) {
    record.named[snapshot.name] = snapshot;
    snapshot.name.clear();
  }
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
    record.ring.push_back(std::move(snapshot));
    if (static_cast<int64_t>(record.ring.size()) > limits_.snapshots_kept) {
      record.ring.erase(record.ring.begin(),
                        record.ring.end() - limits_.snapshots_kept);
      record.start_seq.reset();
      write.drop_journal_before = record.ring.front().next_seq;
    }
  }
  write.record = record;
  write.request = std::move(request);
  Submit(std::move(write), std::move(done));
}

absl::Status Session::WriteAndWait(StoreWrite write) {
  return WaitFor<absl::Status>([&](SessionStore::Done done) {
    absl::MutexLock lock(&mutex_);
    Submit(std::move(write), std::move(done));
  });
}

void Session::Update(const UpdateSessionOptions& options,
                     std::function<void(absl::StatusOr<SessionInfo>)> done) {
  Afterwards after;
  absl::Status refused;
  {
    absl::MutexLock lock(&mutex_);
    refused = CheckAlive();
    if (refused.ok() && options.revision.has_value() &&
        *options.revision != record_.revision) {
      refused =
          WithReason(absl::AbortedError(absl::StrCat(
                         "session ", id(), " was changed by someone else")),
                     {.reason = "ETAG_MISMATCH", .metadata = {}});
    }
    if (refused.ok()) {
      SessionRecord& record = EditRecord();
      if (options.labels.has_value()) record.labels = *options.labels;
      if (options.ttl.has_value()) record.ttl = *options.ttl;
      if (options.snapshot_interval_tokens.has_value()) {
        record.snapshot_interval_tokens = *options.snapshot_interval_tokens;
      }
      if (options.pinned.has_value()) record.pinned = *options.pinned;
      ++record.revision;
      record.update_time = clock_->Now();
      const SessionInfo info = InfoLocked();
      Tell(SessionEvent::Kind::kUpdated, "", after);
      after.idle = place_ == Place::kHot && holds_ == 0 && !InUse();
      PutRecord(Remember(options.request, info, clock_->Now()),
                [info, done](const absl::Status& status) {
                  if (status.ok()) {
                    done(info);
                  } else {
                    done(status);
                  }
                });
    }
  }
  Do(after);
  if (!refused.ok()) done(refused);
}

void Session::RemoveStored(absl::optional<RememberedRequest> request,
                           SessionStore::Done done) {
  StoreWrite write{.uid = uid(), .remove = true};
  write.request = std::move(request);
  store_->Write(std::move(write), std::move(done));
}

}  // namespace mneme
