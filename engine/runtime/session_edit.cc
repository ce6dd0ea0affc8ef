// SPDX-License-Identifier: Apache-2.0
//
// What is done to a session as a whole: kept, taken back, emptied.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/base/wait_for.h"
#include "engine/runtime/requests.h"
#include "engine/runtime/session.h"

namespace mneme {

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
  MNEME_RETURN_IF_ERROR(WaitFor<absl::Status>([&](SessionStore::Done done) {
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
  const absl::Status outcome =
      WaitFor<absl::Status>([&](SessionStore::Done done) {
        {
          absl::MutexLock lock(&mutex_);
          refused = CheckAlive();
          const auto found = record_.named.find(name);
          if (refused.ok() && found == record_.named.end()) {
            refused = SnapshotNotFound(id(), name);
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

void Session::Release(const StoredEdit* edited, SessionEvent::Kind kind) {
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
      RestAt(record_, edited->journal());
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
                           absl::FunctionRef<absl::Status(StoredEdit&)> edit) {
  MNEME_RETURN_IF_ERROR(Seize(takeover));
  // What was accepted is in the journal now, or never will be.
  absl::Status status = WriteAndWait({.uid = uid()});
  StoredEdit edited = [this] {
    absl::MutexLock lock(&mutex_);
    return StoredEdit(record_, next_seq_, NextOffset());
  }();
  if (status.ok()) status = edit(edited);
  if (status.ok()) {
    edited.record().quarantine.clear();
    edited.record().good_snapshot.clear();
    edited.record().update_time = clock_->Now();
    status = WaitFor<absl::Status>([&](SessionStore::Done done) {
      absl::MutexLock lock(&mutex_);
      EditRecord() = edited.record();
      StoreWrite write = std::move(edited.write());
      write.record = record_;
      write.request = Remember(request, InfoLocked(), clock_->Now());
      chained_ = true;
      Submit(std::move(write), std::move(done));
    });
  }
  Release(status.ok() ? &edited : nullptr, kind);
  return status;
}

absl::Status Session::Reset(const ResetOptions& options) {
  return Edit(options.takeover, SessionEvent::Kind::kReset, options.request,
              [](StoredEdit& edited) {
                edited.Empty();
                return absl::OkStatus();
              });
}

absl::Status Session::Rollback(const RollbackOptions& options) {
  {
    // What can be said before anything is fenced.
    absl::MutexLock lock(&mutex_);
    MNEME_RETURN_IF_ERROR(
        options.snapshot.empty()
            ? CheckKept(record_, NextOffset(), options.offset)
            : FindSnapshot(record_, options.snapshot).status());
  }
  return Edit(options.takeover, SessionEvent::Kind::kRolledBack,
              options.request, [this, &options](StoredEdit& edited) {
                return options.snapshot.empty()
                           ? edited.CutAt(options.offset, *store_)
                           : edited.TakeBack(options.snapshot);
              });
}

}  // namespace mneme
