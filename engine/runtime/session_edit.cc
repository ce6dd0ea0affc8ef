// SPDX-License-Identifier: Apache-2.0
//
// What is done to a session as a whole: kept, taken back, emptied.
#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/runtime/journal_cut.h"
#include "engine/runtime/requests.h"
#include "engine/runtime/session.h"

namespace mneme {
namespace {

absl::Status NoSnapshot(const std::string& session, const std::string& name) {
  return WithReason(absl::NotFoundError(absl::StrCat(
                        "session ", session, " has no snapshot ", name)),
                    {.reason = "SNAPSHOT_NOT_FOUND", .metadata = {}});
}

}  // namespace

std::string SnapshotName(const StoredSnapshot& snapshot) {
  return snapshot.name.empty() ? absl::StrCat("auto-", snapshot.blob)
                               : snapshot.name;
}

absl::Status Session::Await(
    const std::function<void(SessionStore::Done)>& write) {
  absl::Notification stored;
  absl::Status outcome;
  write([&](const absl::Status& status) {
    outcome = status;
    stored.Notify();
  });
  stored.WaitForNotification();
  return outcome;
}

void Session::WhenQuiet(std::function<void(absl::Status)> work) {
  Afterwards after;
  absl::Status refused;
  {
    absl::MutexLock lock(&mutex_);
    refused = CheckHot();
    if (refused.ok()) {
      ResumeSuspended(/*cancel=*/true, after);
      quiet_.push_back(work);
      after.wake = true;
    }
  }
  Do(after);
  if (!refused.ok()) work(refused);
}

absl::StatusOr<StoredSnapshot> Session::FindSnapshot(
    const SessionRecord& record, const std::string& name) {
  const auto named = record.named.find(name);
  if (named != record.named.end()) return named->second;
  for (const StoredSnapshot& snapshot : record.ring) {
    if (SnapshotName(snapshot) == name) return snapshot;
  }
  return NoSnapshot(record.id, name);
}

bool Session::BeginRest() {
  absl::MutexLock lock(&mutex_);
  if (deleted_ || place_ != Place::kCold || !record_.quarantine.empty() ||
      !KeepsAll(next_seq_) || leased_) {
    return false;
  }
  place_ = Place::kLeaving;
  leased_ = true;
  return true;
}

absl::Status Session::CheckQuota(size_t bytes, bool named) const {
  if (limits_.stored_bytes == 0 || !named) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  int64_t stored = journal_bytes_ + static_cast<int64_t>(bytes);
  for (const StoredSnapshot& kept : record_.ring) stored += kept.stored_bytes;
  for (const auto& [name, kept] : record_.named) stored += kept.stored_bytes;
  if (stored <= limits_.stored_bytes) return absl::OkStatus();
  return WithReason(
      absl::ResourceExhaustedError(absl::StrCat(
          "session ", id(), " would take ", stored,
          " bytes of the store, wanted at most ", limits_.stored_bytes)),
      {.reason = "QUOTA", .metadata = {}});
}

absl::StatusOr<StoredSnapshot> Session::KeepSnapshot(
    const std::string& name, const Remembering& remember) {
  Encoded encoded;
  bool known = false;
  {
    absl::MutexLock lock(&mutex_);
    MNEME_RETURN_IF_ERROR(CheckAlive());
    if (!name.empty() && record_.named.count(name) != 0) {
      return WithReason(
          absl::AlreadyExistsError(absl::StrCat(
              "session ", id(), " has a snapshot ", name, " already")),
          {.reason = "SNAPSHOT_EXISTS", .metadata = {}});
    }
    known = KeepsAll(next_seq_);
    if (known) encoded.snapshot = record_.ring.back();
    if (!known) encoded = EncodeBeside();
  }
  if (!known) {
    const std::string contents = EncodeAll(encoded);
    MNEME_RETURN_IF_ERROR(StoreEncoded(contents, encoded, name, remember));
    return encoded.snapshot;
  }
  if (name.empty()) return encoded.snapshot;
  encoded.snapshot.name = name;
  encoded.snapshot.create_time = clock_->Now();
  MNEME_RETURN_IF_ERROR(CheckQuota(0, /*named=*/true));
  MNEME_RETURN_IF_ERROR(Await([&](SessionStore::Done done) {
    absl::MutexLock lock(&mutex_);
    EditRecord().named[name] = encoded.snapshot;
    PutRecord(remember == nullptr ? absl::nullopt : remember(encoded.snapshot),
              std::move(done));
  }));
  return encoded.snapshot;
}

absl::StatusOr<Session::Contents> Session::QuietContents() {
  Encoded encoded;
  {
    absl::MutexLock lock(&mutex_);
    if (hot_ != nullptr) {
      encoded = EncodeBeside();
    } else {
      encoded.snapshot = record_.ring.back();
    }
  }
  std::string bytes;
  if (encoded.snapshot.blob != 0) {
    MNEME_ASSIGN_OR_RETURN(bytes, store_->ReadBlob(encoded.snapshot.blob));
  } else {
    bytes = EncodeAll(encoded);
  }
  return Contents{.snapshot = encoded.snapshot, .bytes = std::move(bytes)};
}

absl::Status Session::DropSnapshot(const std::string& name,
                                   const Remembering& remember) {
  absl::Status refused;
  const absl::Status outcome = Await([&](SessionStore::Done done) {
    {
      absl::MutexLock lock(&mutex_);
      refused = CheckAlive();
      const auto found = record_.named.find(name);
      if (refused.ok() && found == record_.named.end()) {
        refused = NoSnapshot(id(), name);
      }
      if (refused.ok()) {
        const StoredSnapshot snapshot = found->second;
        EditRecord().named.erase(name);
        PutRecord(remember == nullptr ? absl::nullopt : remember(snapshot),
                  std::move(done));
        return;
      }
    }
    done(refused);
  });
  return outcome;
}

std::vector<StoredSnapshot> Session::Snapshots() const {
  absl::MutexLock lock(&mutex_);
  std::vector<StoredSnapshot> snapshots = record_.ring;
  for (const auto& [name, snapshot] : record_.named) {
    snapshots.push_back(snapshot);
  }
  std::stable_sort(
      snapshots.begin(), snapshots.end(),
      [](const auto& a, const auto& b) { return a.offset < b.offset; });
  return snapshots;
}

absl::Status Session::Seize(bool takeover) {
  Afterwards after;
  absl::Status status;
  {
    auto free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return deleted_ ||
             (!leased_ && (place_ == Place::kHot || place_ == Place::kCold));
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&free));
    status = CheckAlive();
    if (status.ok() && !takeover &&
        (writer_ != nullptr || CommittingTask() != nullptr ||
         !tasks_.empty())) {
      status = WithReason(absl::AbortedError(absl::StrCat(
                              "session ", id(), " is in use; want takeover")),
                          {.reason = "SESSION_BUSY", .metadata = {}});
    }
    if (status.ok()) {
      SessionRecord& record = EditRecord();
      ++record.epoch;
      ++record.revision;
      const absl::Status fenced = TakenOver(id(), record.epoch);
      if (writer_ != nullptr || !tasks_.empty()) {
        Tell(SessionEvent::Kind::kFenced, "", after);
      }
      FenceWriter(fenced, after);
      if (!said_.empty()) JournalSaid(nullptr);
      AbandonTasks(fenced, absl::OkStatus(), after);
      place_ = Place::kLeaving;
      leased_ = true;
    }
  }
  Do(after);
  return status;
}

void Session::Release(const Edited* edited, SessionEvent::Kind kind) {
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    place_ = hot_ != nullptr ? Place::kHot : Place::kCold;
    if (edited != nullptr) {
      if (hot_ != nullptr) DropHot();
      ++run_;
      chained_ = false;
      stalled_ = false;
      stored_record_.reset();
      unstored_writes_ = 0;
      unstored_bytes_ = 0;
      RestAt(record_, edited->journal);
      Tell(kind, "", after);
    }
    EndLease(after);
    if (!waiters_.empty() && place_ == Place::kHot) {
      AnswerWaiters(LoadReport{}, after);
    } else if (!waiters_.empty()) {
      place_ = Place::kLoading;
      after.calls.push_back(
          [this, self = shared_from_this()] { host_->StartLoad(self); });
    }
    after.wake = hot_ != nullptr;
  }
  Do(after);
}

absl::Status Session::Edit(bool takeover, SessionEvent::Kind kind,
                           const RequestTag<SessionInfo>& request,
                           absl::FunctionRef<absl::Status(Edited&)> edit) {
  MNEME_RETURN_IF_ERROR(Seize(takeover));
  // What was accepted is in the journal now, or never will be.
  absl::Status status = WriteAndWait({.uid = uid()});
  Edited edited;
  {
    absl::MutexLock lock(&mutex_);
    edited.record = record_;
    edited.end_seq = next_seq_;
    edited.next_offset = NextOffset();
  }
  edited.write.uid = uid();
  if (status.ok()) status = edit(edited);
  if (status.ok()) {
    edited.record.quarantine.clear();
    edited.record.good_snapshot.clear();
    edited.record.update_time = clock_->Now();
    status = Await([&](SessionStore::Done done) {
      absl::MutexLock lock(&mutex_);
      EditRecord() = edited.record;
      StoreWrite write = std::move(edited.write);
      write.record = record_;
      write.request = Remember(request, InfoLocked(), clock_->Now());
      chained_ = true;
      Submit(std::move(write), std::move(done));
    });
  }
  Release(status.ok() ? &edited : nullptr, kind);
  return status;
}

void Session::Edited::Empty() {
  record.ring.clear();
  DropJournal();
  record.start_seq = end_seq;
}

void Session::Edited::DropJournal() {
  record.replay_seq = end_seq;
  record.start_seq.reset();
  write.drop_journal_before = end_seq;
  write.drop_journal_from = end_seq;
}

absl::Status Session::Reset(const ResetOptions& options) {
  return Edit(options.takeover, SessionEvent::Kind::kReset, options.request,
              [](Edited& edited) {
                edited.Empty();
                return absl::OkStatus();
              });
}

absl::Status Session::CheckRollback(const RollbackOptions& options) const {
  absl::MutexLock lock(&mutex_);
  if (!options.snapshot.empty()) {
    return FindSnapshot(record_, options.snapshot).status();
  }
  const int64_t next_offset = NextOffset();
  const int64_t oldest = record_.start_seq.has_value() || record_.ring.empty()
                             ? 0
                             : record_.ring.front().offset;
  if (options.offset < 0 || options.offset > next_offset) {
    return OffsetNotKept(options.offset, options.offset < 0 ? 0 : next_offset);
  }
  if (options.offset > 0 && options.offset < oldest) {
    return OffsetNotKept(options.offset, oldest);
  }
  return absl::OkStatus();
}

absl::Status Session::Rollback(const RollbackOptions& options) {
  // What can be said before anything is fenced.
  MNEME_RETURN_IF_ERROR(CheckRollback(options));
  return Edit(options.takeover, SessionEvent::Kind::kRolledBack,
              options.request, [this, &options](Edited& edited) {
                return options.snapshot.empty()
                           ? CutAt(options.offset, edited)
                           : TakeBack(options.snapshot, edited);
              });
}

absl::Status Session::TakeBack(const std::string& name, Edited& edited) {
  MNEME_ASSIGN_OR_RETURN(StoredSnapshot target,
                         FindSnapshot(edited.record, name));
  target.name.clear();
  target.next_seq = edited.end_seq;
  edited.record.ring = {std::move(target)};
  edited.DropJournal();
  return absl::OkStatus();
}

absl::Status Session::CutAt(int64_t offset, Edited& edited) const {
  SessionRecord& record = edited.record;
  const int64_t next_offset = edited.next_offset;
  if (offset < 0 || offset > next_offset) {
    return OffsetNotKept(offset, offset < 0 ? 0 : next_offset);
  }
  if (offset == 0) {
    edited.Empty();
    return absl::OkStatus();
  }
  // From the last snapshot that is not behind it, or from the beginning.
  if (!record.ring.empty()) {
    const int64_t oldest = record.ring.front().offset;
    if (offset < oldest && !record.start_seq.has_value()) {
      return OffsetNotKept(offset, oldest);
    }
    // One that stands there may hold what comes behind without any bytes.
    const auto behind = [&](const StoredSnapshot& snapshot) {
      const bool needed =
          record.ring.size() == 1 && !record.start_seq.has_value();
      return snapshot.offset > offset ||
             (snapshot.offset == offset && offset < next_offset && !needed);
    };
    while (!record.ring.empty() && behind(record.ring.back())) {
      record.ring.pop_back();
    }
    record.replay_seq =
        record.ring.empty() ? *record.start_seq : record.ring.back().next_seq;
  }
  const uint64_t seq = record.replay_seq;
  std::vector<JournalRecord> records;
  absl::Status wrong;
  MNEME_RETURN_IF_ERROR(store_->ReadJournal(
      uid(), seq, [&](uint64_t at, std::string_view payload) {
        absl::StatusOr<JournalRecord> read = DecodeJournalRecord(payload);
        if (read.ok()) {
          records.push_back(*std::move(read));
        } else {
          wrong = absl::DataLossError(
              absl::StrCat("journal record ", at, ": ",
                           std::string(read.status().message())));
        }
        return wrong.ok();
      }));
  MNEME_RETURN_IF_ERROR(wrong);
  // At its end nothing is cut, but an answer that runs ends.
  MNEME_ASSIGN_OR_RETURN(
      const std::vector<JournalRecord> kept,
      CutJournal(records, unit(),
                 offset == next_offset ? std::numeric_limits<int64_t>::max()
                                       : offset));
  size_t same = 0;
  while (same < std::min(kept.size(), records.size()) &&
         kept[same] == records[same]) {
    ++same;
  }
  edited.write.drop_journal_from = seq + same;
  for (size_t i = same; i < kept.size(); ++i) {
    edited.write.append.push_back(
        {.seq = seq + i, .payload = EncodeJournalRecord(kept[i])});
  }
  if (!kept.empty()) {
    edited.journal = JournalEnd{.next_seq = seq + kept.size(),
                                .last = EncodeJournalRecord(kept.back())};
  }
  return absl::OkStatus();
}

}  // namespace mneme
