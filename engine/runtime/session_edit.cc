// SPDX-License-Identifier: Apache-2.0
//
// What is done to a session as a whole: kept, taken back, emptied.
#include <algorithm>
#include <set>
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
      !KeepsAll(writes_.end().seq) || leased_) {
    return false;
  }
  place_ = Place::kLeaving;
  leased_ = true;
  return true;
}

int64_t Session::StoredBytes() const {
  std::set<uint64_t> blobs;
  int64_t bytes = journal_bytes_;
  const auto add = [&](const StoredSnapshot& kept) {
    if (blobs.insert(kept.blob).second) bytes += kept.stored_bytes;
  };
  for (const StoredSnapshot& kept : record_.ring) add(kept);
  for (const auto& [name, kept] : record_.named) add(kept);
  if (!record_.ring.empty()) {
    // The journal before the last snapshot: the history that it holds.
    bytes += (record_.ring.back().offset - record_.ring.front().offset) *
             UnitBytes(unit());
  }
  return bytes;
}

absl::Status Session::CheckQuota(int64_t bytes) const {
  if (limits_.stored_bytes == 0) return absl::OkStatus();
  const int64_t stored = StoredBytes() + bytes;
  if (stored <= limits_.stored_bytes) return absl::OkStatus();
  return WithReason(
      absl::ResourceExhaustedError(absl::StrCat(
          "session ", id(), " would take ", stored,
          " bytes of the store, wanted at most ", limits_.stored_bytes)),
      {.reason = "QUOTA", .metadata = {}});
}

absl::Status Session::CheckName(const std::string& name) {
  if (name.empty()) return absl::OkStatus();
  if (record_.named.count(name) != 0) {
    return WithReason(
        absl::AlreadyExistsError(absl::StrCat(
            "session ", id(), " has a snapshot ", name, " already")),
        {.reason = "SNAPSHOT_EXISTS", .metadata = {}});
  }
  if (record_.named.size() >= kMaxNamedSnapshots) {
    return WithReason(
        absl::ResourceExhaustedError(absl::StrCat(
            "session ", id(), " has ", record_.named.size(),
            " snapshots with names, wanted fewer than ", kMaxNamedSnapshots)),
        {.reason = "QUOTA", .metadata = {}});
  }
  return FitIndex(kSnapshotBytes);
}

absl::StatusOr<StoredSnapshot> Session::KeepSnapshot(
    const std::string& name, const Remembering& remember) {
  Encoded encoded;
  bool known = false;
  {
    absl::MutexLock lock(&mutex_);
    MNEME_RETURN_IF_ERROR(CheckAlive());
    MNEME_RETURN_IF_ERROR(CheckName(name));
    known = KeepsAll(writes_.end().seq);
    if (known) encoded.snapshot = record_.ring.back();
    if (!known) encoded = EncodeBeside();
  }
  if (!known) {
    BufferPool::Lease contents(buffers_);
    EncodeAll(encoded, *contents);
    MNEME_RETURN_IF_ERROR(StoreEncoded(*contents, encoded, name, remember));
    return encoded.snapshot;
  }
  if (name.empty()) {
    // It may be on its way to the store, and then not get there.
    MNEME_RETURN_IF_ERROR(AwaitStored());
    return encoded.snapshot;
  }
  encoded.snapshot.name = name;
  encoded.snapshot.create_time = clock_->Now();
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
    MNEME_RETURN_IF_ERROR(store_->ReadBlob(encoded.snapshot.blob, bytes));
  } else {
    EncodeAll(encoded, bytes);
    DigestState(encoded);
  }
  return Contents{.snapshot = encoded.snapshot, .bytes = std::move(bytes)};
}

absl::Status Session::DropSnapshot(const std::string& name,
                                   const Remembering& remember) {
  return WaitFor<absl::Status>([&](SessionStore::Done done) {
    auto unedited = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return !editing_;
    };
    absl::MutexLock lock(&mutex_);
    // An edit may be about to make the session what the snapshot has.
    mutex_.Await(absl::Condition(&unedited));
    absl::Status refused = CheckAlive();
    const auto found = record_.named.find(name);
    if (refused.ok() && found == record_.named.end()) {
      refused = SnapshotNotFound(id(), name);
    }
    if (!refused.ok()) {
      done(refused);
      return;
    }
    const StoredSnapshot snapshot = found->second;
    EditRecord().named.erase(name);
    FitIndex(0).IgnoreError();  // it is less
    StoreWrite write = writes_.Next(uid());
    write.forgets = true;
    PutRecord(std::move(write), writes_.end(),
              remember == nullptr ? absl::nullopt : remember(snapshot),
              std::move(done));
  });
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

bool Session::Untouched() const {
  absl::MutexLock lock(&mutex_);
  return record_.ring.empty() && writes_.end().seq == record_.replay_seq;
}

absl::StatusOr<bool> Session::Seize(bool takeover) {
  Afterwards after;
  absl::Status status;
  bool fenced = false;
  {
    auto free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return !CheckOpen().ok() ||
             (!leased_ && (place_ == Place::kHot || place_ == Place::kCold));
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&free));
    status = CheckOpen();
    if (status.ok() && !takeover &&
        (writer_ != nullptr || CommittingTask() != nullptr ||
         !tasks_.empty())) {
      status = WithReason(
          absl::AbortedError(
              absl::StrCat("session ", id(), " is in use; want takeover")),
          {.reason = "SESSION_BUSY", .metadata = {{"busy", Busy()}}});
    }
    if (status.ok()) {
      const absl::Status taken = TakenOver(id(), record_.epoch + 1);
      fenced = writer_ != nullptr || !tasks_.empty();
      if (fenced) Tell(SessionEvent::Kind::kFenced, "", after);
      FenceWriter(taken, after);
      if (!said_.empty()) JournalSaid(nullptr);
      AbandonTasks(taken, absl::OkStatus(), after);
      RefuseQuiet(taken, after);
      place_ = Place::kLeaving;
      leased_ = true;
    }
  }
  Do(after);
  if (!status.ok()) return status;
  return fenced;
}

void Session::Release() {
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    place_ = hot_ != nullptr ? Place::kHot : Place::kCold;
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

absl::Status Session::AwaitStored() {
  return WaitFor<absl::Status>([&](SessionStore::Done done) {
    {
      absl::MutexLock lock(&mutex_);
      if (!writes_.idle()) {
        Submit(writes_.Next(uid()), writes_.end(), std::move(done));
        return;
      }
    }
    done(absl::OkStatus());
  });
}

absl::Status Session::Edit(bool takeover, SessionEvent::Kind kind,
                           const RequestTag<SessionInfo>& request,
                           absl::FunctionRef<absl::Status(StoredEdit&)> make) {
  MNEME_ASSIGN_OR_RETURN(const bool fenced, Seize(takeover));
  const absl::Status status = [&]() -> absl::Status {
    // What was accepted is in the journal then, or never will be.
    MNEME_RETURN_IF_ERROR(AwaitStored());
    Afterwards after;
    absl::optional<StoredEdit> edit;
    {
      absl::MutexLock lock(&mutex_);
      if (hot_ != nullptr) DropHot(after);
      place_ = Place::kLeaving;
      edit.emplace(record_, writes_.end());
      editing_ = true;
      ++run_;  // no snapshot comes between
    }
    Do(after);
    const absl::Status made = make(*edit);
    if (!made.ok()) {
      absl::MutexLock lock(&mutex_);
      editing_ = false;
      if (!fenced) return made;
      // Those who were fenced were told of an epoch.
      SessionRecord& record = EditRecord();
      ++record.epoch;
      ++record.revision;
      PutRecord();
      return made;
    }
    return Put(*std::move(edit), kind, request);
  }();
  Release();
  return status;
}

absl::Status Session::Put(StoredEdit edit, SessionEvent::Kind kind,
                          const RequestTag<SessionInfo>& request) {
  Afterwards after;
  const absl::Status stored =
      WaitFor<absl::Status>([&](SessionStore::Done done) {
        absl::MutexLock lock(&mutex_);
        editing_ = false;
        SessionRecord& record = EditRecord();
        edit.Apply(record);
        ++record.epoch;
        ++record.revision;
        NoteUse();
        StoreWrite write = writes_.Next(uid());
        edit.Apply(write);
        write.forgets = true;
        ReachSnapshot();
        SessionInfo info = InfoLocked();
        info.absorbed_offset = info.next_offset = edit.end().offset;
        if (store_->durable()) info.durable_offset = info.next_offset;
        PutRecord(std::move(write), edit.end(),
                  Remember(request, info, clock_->Now()), std::move(done));
      });
  if (stored.ok()) {
    absl::MutexLock lock(&mutex_);
    Tell(kind, "", after);
  }
  Do(after);
  return stored;
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
  JournalRoom room(host_);
  return Edit(options.takeover, SessionEvent::Kind::kRolledBack,
              options.request, [&](StoredEdit& edited) {
                if (!options.snapshot.empty()) {
                  return edited.TakeBack(options.snapshot);
                }
                return edited.CutAt(
                    options.offset, *store_,
                    [&room](int64_t bytes) { return room.Hold(bytes); });
              });
}

}  // namespace mneme
