// SPDX-License-Identifier: Apache-2.0
#include "engine/store/session_index.h"

#include <algorithm>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/base/status_macros.h"
#include "engine/store/record_coding.h"
#include "engine/store/store_keys.h"

namespace mneme {
namespace {

constexpr KvStore::Space kMeta = KvStore::Space::kMeta;
constexpr KvStore::Space kJournal = KvStore::Space::kJournal;

std::string_view WithoutPrefix(std::string_view key, std::string_view prefix) {
  return key.substr(prefix.size());
}

}  // namespace

std::set<uint64_t> BlobsOf(const SessionRecord& record) {
  std::set<uint64_t> blobs;
  for (const StoredSnapshot& snapshot : record.ring) {
    blobs.insert(snapshot.blob);
  }
  for (const auto& [name, snapshot] : record.named) blobs.insert(snapshot.blob);
  return blobs;
}

absl::Status SessionIndex::Load(const KvStore& kv) {
  MNEME_RETURN_IF_ERROR(
      kv.Scan(kMeta, kRecordPrefix, BehindPrefix(kRecordPrefix),
              [this](std::string_view key, std::string_view value) {
                LoadRecord(key, value);
                return true;
              }));
  MNEME_RETURN_IF_ERROR(LoadNextBlob(kv));
  return LoadJournalEnds(kv);
}

absl::Status SessionIndex::LoadNextBlob(const KvStore& kv) {
  const absl::StatusOr<absl::optional<std::string>> stored =
      GetSealed(kv, kMeta, kNextBlobKey);
  // If it is damaged, the blobs say as much.
  if (absl::IsDataLoss(stored.status())) return absl::OkStatus();
  MNEME_RETURN_IF_ERROR(stored.status());
  if (!stored->has_value()) return absl::OkStatus();
  MNEME_ASSIGN_OR_RETURN(const uint64_t next, DecodeNumber(**stored));
  const absl::MutexLock lock(&mutex_);
  next_blob_ = std::max(next_blob_, next);
  return absl::OkStatus();
}

void SessionIndex::LoadRecord(std::string_view key, std::string_view value) {
  const absl::StatusOr<std::string_view> payload = Unseal(kMeta, key, value);
  const absl::StatusOr<SessionRecord> record =
      payload.ok() ? DecodeSessionRecord(*payload) : payload.status();
  const absl::MutexLock lock(&mutex_);
  SessionEnds& ends = sessions_[std::string(WithoutPrefix(key, kRecordPrefix))];
  if (!record.ok()) {
    ends.damaged = true;
    any_damaged_ = true;
    return;
  }
  ends.replay_seq = record->replay_seq;
  ends.next_seq = record->replay_seq;
  for (const uint64_t blob : BlobsOf(*record)) {
    ++blob_uses_[blob];
    next_blob_ = std::max(next_blob_, blob + 1);
  }
}

absl::Status SessionIndex::LoadJournalEnds(const KvStore& kv) {
  std::vector<std::string> active;
  MNEME_RETURN_IF_ERROR(
      kv.Scan(kMeta, kActivePrefix, BehindPrefix(kActivePrefix),
              [&](std::string_view key, std::string_view /*value*/) {
                active.emplace_back(WithoutPrefix(key, kActivePrefix));
                return true;
              }));
  const absl::MutexLock lock(&mutex_);
  for (const auto& [uid, ends] : sessions_) {
    if (ends.damaged) active.push_back(uid);
  }
  for (const std::string& uid : active) {
    const auto ends = sessions_.find(uid);
    // A mark without a record: the record is lost.
    if (ends == sessions_.end()) {
      any_damaged_ = true;
      continue;
    }
    const absl::StatusOr<absl::optional<KvStore::Entry>> last =
        kv.Last(kJournal, JournalKey(uid, 0), BehindPrefix(uid));
    if (absl::IsDataLoss(last.status())) {
      ends->second.damaged = true;
      continue;
    }
    if (!last.ok()) return last.status();
    if (last->has_value()) {
      MNEME_ASSIGN_OR_RETURN(const uint64_t seq, NumberAtEnd((*last)->key));
      ends->second.next_seq = seq + 1;
    }
    // The mark says that there is a record beyond.
    if (ends->second.next_seq <= ends->second.replay_seq) {
      ends->second.damaged = true;
    }
  }
  return absl::OkStatus();
}

absl::optional<SessionEnds> SessionIndex::Find(const std::string& uid) const {
  const absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(uid);
  if (found == sessions_.end()) return absl::nullopt;
  return found->second;
}

int64_t SessionIndex::sessions() const {
  const absl::MutexLock lock(&mutex_);
  return static_cast<int64_t>(sessions_.size());
}

bool SessionIndex::any_damaged() const {
  const absl::MutexLock lock(&mutex_);
  return any_damaged_;
}

int64_t SessionIndex::BlobUses(uint64_t blob) const {
  const absl::MutexLock lock(&mutex_);
  const auto found = blob_uses_.find(blob);
  return found == blob_uses_.end() ? 0 : found->second;
}

uint64_t SessionIndex::next_blob() const {
  const absl::MutexLock lock(&mutex_);
  return next_blob_;
}

bool SessionIndex::IsUnpublished(uint64_t blob) const {
  const absl::MutexLock lock(&mutex_);
  return unpublished_.contains(blob);
}

void SessionIndex::AddUnpublished(uint64_t blob) {
  const absl::MutexLock lock(&mutex_);
  unpublished_.insert(blob);
}

bool SessionIndex::DropUnpublished(uint64_t blob) {
  const absl::MutexLock lock(&mutex_);
  return unpublished_.erase(blob) > 0;
}

void SessionIndex::Apply(const Changes& changes) {
  const absl::MutexLock lock(&mutex_);
  for (const auto& [uid, ends] : changes.sessions) {
    if (ends.has_value()) {
      sessions_[uid] = *ends;
    } else {
      sessions_.erase(uid);
    }
  }
  next_blob_ = std::max(next_blob_, changes.next_blob);
  for (const auto& [blob, more] : changes.blob_uses) {
    const int64_t uses = (blob_uses_[blob] += more);
    if (uses > 0) unpublished_.erase(blob);
    if (uses == 0) blob_uses_.erase(blob);
  }
}

}  // namespace mneme
