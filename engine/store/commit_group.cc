// SPDX-License-Identifier: Apache-2.0
#include "engine/store/commit_group.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/store/record_coding.h"
#include "engine/store/store_keys.h"

namespace mneme {
namespace {

constexpr KvStore::Space kMeta = KvStore::Space::kMeta;
constexpr KvStore::Space kJournal = KvStore::Space::kJournal;
constexpr KvStore::Space kBlobs = KvStore::Space::kBlobs;

}  // namespace

absl::optional<SessionEnds> CommitGroup::FindSession(
    const std::string& uid) const {
  const auto changed = changes_.sessions.find(uid);
  if (changed != changes_.sessions.end()) return changed->second;
  return index_->Find(uid);
}

absl::StatusOr<CommitGroup::Blobs> CommitGroup::FindBlobs(
    const std::string& uid) const {
  const auto changed = blobs_.find(uid);
  if (changed != blobs_.end()) return changed->second;
  MNEME_ASSIGN_OR_RETURN(const absl::optional<std::string> payload,
                         GetSealed(*kv_, kMeta, RecordKey(uid)));
  if (!payload.has_value()) return Blobs();
  MNEME_ASSIGN_OR_RETURN(const SessionRecord record,
                         DecodeSessionRecord(*payload));
  return BlobsOf(record);
}

int64_t CommitGroup::BlobUses(uint64_t blob) const {
  const auto changed = changes_.blob_uses.find(blob);
  return index_->BlobUses(blob) +
         (changed == changes_.blob_uses.end() ? 0 : changed->second);
}

absl::Status CommitGroup::Add(const StoreWrite& write) {
  const bool only_request = !write.record.has_value() && !write.remove &&
                            !write.drop_journal_from.has_value() &&
                            !write.drop_journal_before.has_value() &&
                            write.append.empty();
  if (!only_request) {
    MNEME_ASSIGN_OR_RETURN(const std::string uid, UidBytes(write.uid));
    KvStore::Batch batch;
    if (write.remove) {
      if (write.record.has_value() || !write.append.empty()) {
        return absl::InternalError(absl::StrCat(
            "session ", write.uid, ": one write removes it and adds to it"));
      }
      MNEME_RETURN_IF_ERROR(Remove(uid, batch));
    } else {
      absl::optional<SessionEnds> found = FindSession(uid);
      if (!found.has_value() && !write.create) {
        return absl::NotFoundError(
            absl::StrCat("session ", write.uid, " is not in the store"));
      }
      SessionEnds ends = found.value_or(SessionEnds());
      if (!found.has_value() && !write.record.has_value()) {
        return absl::InternalError(absl::StrCat(
            "session ", write.uid, ": it is created without a record"));
      }
      if (!found.has_value()) {
        // Its journal begins with what comes first.
        ends.next_seq =
            write.append.empty()
                ? write.record->replay_seq
                : std::min(write.record->replay_seq, write.append.front().seq);
      }
      // A damaged session may have its mark or not.
      const bool marked = found.has_value() && ends.active() && !ends.damaged;
      KvStore::Batch journal;
      MNEME_RETURN_IF_ERROR(ChangeJournal(uid, write, ends, journal));
      if (ends.active() && !marked) {
        PutSealed(kMeta, ActiveKey(uid), "", batch);
      } else if (!ends.active() && found.has_value()) {
        DeleteKey(kMeta, ActiveKey(uid), batch);
      }
      if (write.record.has_value()) {
        if (write.record->uid != write.uid) {
          return absl::InternalError(absl::StrCat("session ", write.uid,
                                                  ": its record has uid ",
                                                  write.record->uid));
        }
        absl::StatusOr<Blobs> before = FindBlobs(uid);
        // Blobs of a record that cannot be read are left to the next opening.
        if (absl::IsDataLoss(before.status())) before = Blobs();
        if (!before.ok()) return before.status();
        const Blobs after = BlobsOf(*write.record);
        MNEME_RETURN_IF_ERROR(CheckBlobs(*before, after));
        PutSealed(kMeta, RecordKey(uid), EncodeSessionRecord(*write.record),
                  batch);
        ReplaceBlobs(uid, *before, after);
      }
      std::move(journal.begin(), journal.end(), std::back_inserter(batch));
      changes_.sessions[uid] = ends;
    }
    std::move(batch.begin(), batch.end(), std::back_inserter(batch_));
  }
  if (write.request.has_value()) plan_.added.push_back(*write.request);
  return absl::OkStatus();
}

absl::Status CommitGroup::Remove(const std::string& uid,
                                 KvStore::Batch& batch) {
  if (!FindSession(uid).has_value()) return absl::OkStatus();
  absl::StatusOr<Blobs> before = FindBlobs(uid);
  if (absl::IsDataLoss(before.status())) before = Blobs();
  if (!before.ok()) return before.status();
  DeleteKey(kMeta, RecordKey(uid), batch);
  DeleteKey(kMeta, ActiveKey(uid), batch);
  DeleteKeys(kJournal, JournalKey(uid, 0), BehindPrefix(uid), batch);
  ReplaceBlobs(uid, *before, {});
  changes_.sessions[uid] = absl::nullopt;
  return absl::OkStatus();
}

absl::Status CommitGroup::ChangeJournal(const std::string& uid,
                                        const StoreWrite& write,
                                        SessionEnds& ends,
                                        KvStore::Batch& batch) const {
  if (ends.damaged && !write.record.has_value()) {
    return absl::DataLossError(
        absl::StrCat("session ", write.uid, ": its record is damaged"));
  }
  bool emptied = false;
  if (write.drop_journal_from.has_value()) {
    const uint64_t from = *write.drop_journal_from;
    DeleteKeys(kJournal, JournalKey(uid, from), BehindPrefix(uid), batch);
    ends.next_seq = std::min(ends.next_seq, from);
    emptied = from == 0;
  }
  if (write.drop_journal_before.has_value()) {
    const uint64_t before = *write.drop_journal_before;
    DeleteKeys(kJournal, JournalKey(uid, 0), JournalKey(uid, before), batch);
    emptied = emptied || before >= ends.next_seq;
  }
  if (write.record.has_value()) {
    ends.replay_seq = write.record->replay_seq;
    // What is missing of its journal is missing for good.
    if (ends.damaged) ends.next_seq = std::max(ends.next_seq, ends.replay_seq);
    ends.damaged = false;
    // A journal of which nothing is left begins anew where the record says.
    if (emptied && write.append.empty()) ends.next_seq = ends.replay_seq;
    if (emptied && !write.append.empty()) {
      ends.next_seq = std::min(ends.replay_seq, write.append.front().seq);
    }
  }
  for (const JournalEntry& entry : write.append) {
    if (entry.seq != ends.next_seq) {
      return absl::InternalError(absl::StrCat("session ", write.uid,
                                              ": journal record ", entry.seq,
                                              ", want ", ends.next_seq));
    }
    PutSealed(kJournal, JournalKey(uid, entry.seq), entry.payload, batch);
    ++ends.next_seq;
  }
  if (ends.replay_seq > ends.next_seq) {
    return absl::InternalError(
        absl::StrCat("session ", write.uid, ": replayed from record ",
                     ends.replay_seq, ", its journal ends at ", ends.next_seq));
  }
  return absl::OkStatus();
}

absl::Status CommitGroup::CheckBlobs(const Blobs& before,
                                     const Blobs& after) const {
  for (const uint64_t blob : after) {
    // What the group itself dropped is gone, published or not.
    const bool unpublished =
        !changes_.blob_uses.contains(blob) && index_->IsUnpublished(blob);
    if (before.contains(blob) || BlobUses(blob) > 0 || unpublished) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("blob ", blob, " is no longer there"));
  }
  return absl::OkStatus();
}

void CommitGroup::ReplaceBlobs(const std::string& uid, const Blobs& before,
                               const Blobs& after) {
  for (const uint64_t blob : after) {
    if (before.contains(blob)) continue;
    ++changes_.blob_uses[blob];
    changes_.next_blob = std::max(changes_.next_blob, blob + 1);
  }
  for (const uint64_t blob : before) {
    if (after.contains(blob)) continue;
    --changes_.blob_uses[blob];
    if (BlobUses(blob) == 0) DeleteKey(kBlobs, BlobKey(blob), dropped_blobs_);
  }
  blobs_[uid] = after;
}

const KvStore::Batch& CommitGroup::Finish() {
  if (changes_.next_blob > index_->next_blob()) {
    PutSealed(kMeta, kNextBlobKey, EncodeNumber(changes_.next_blob), batch_);
  }
  requests_->Fill(plan_, batch_);
  return batch_;
}

void CommitGroup::Apply() {
  index_->Apply(changes_);
  requests_->Apply(plan_);
}

}  // namespace mneme
