// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/store/kv_session_store.h"
#include "engine/store/record_coding.h"
#include "engine/store/store_keys.h"

namespace mneme {
namespace {

constexpr KvStore::Space kMeta = KvStore::Space::kMeta;
constexpr KvStore::Space kJournal = KvStore::Space::kJournal;
constexpr KvStore::Space kBlobs = KvStore::Space::kBlobs;

absl::Status NotThere(const std::string& uid) {
  return absl::NotFoundError(
      absl::StrCat("session ", uid, " is not in the store"));
}

absl::Status BlobDamaged(uint64_t blob, const std::string& what) {
  return absl::DataLossError(absl::StrCat("blob ", blob, ": ", what));
}

absl::Status JournalDamaged(const std::string& uid, uint64_t seq,
                            const std::string& what) {
  return absl::DataLossError(
      absl::StrCat("session ", uid, ": journal record ", seq, ": ", what));
}

}  // namespace

absl::Status KvSessionStore::ReadBlob(uint64_t blob,
                                      std::string& contents) const {
  const std::string key = BlobKey(blob);
  MNEME_ASSIGN_OR_RETURN(const bool found, kv_->GetBlob(key, contents));
  if (!found) return BlobDamaged(blob, "it is not there");
  const absl::StatusOr<std::string_view> payload =
      Unseal(kBlobs, key, contents);
  if (!payload.ok()) {
    return BlobDamaged(blob, std::string(payload.status().message()));
  }
  contents.resize(payload->size());
  return absl::OkStatus();
}

absl::Status KvSessionStore::ReadJournal(
    const std::string& uid, uint64_t seq,
    absl::FunctionRef<bool(uint64_t seq, std::string_view payload)> read)
    const {
  MNEME_ASSIGN_OR_RETURN(const std::string bytes, UidBytes(uid));
  const absl::optional<SessionEnds> ends = index_.Find(bytes);
  if (!ends.has_value()) return NotThere(uid);
  uint64_t next = seq;
  bool stopped = false;
  absl::Status wrong;
  MNEME_RETURN_IF_ERROR(
      kv_->Scan(kJournal, JournalKey(bytes, seq), BehindPrefix(bytes),
                [&](std::string_view key, std::string_view value) {
                  const absl::StatusOr<uint64_t> found = NumberAtEnd(key);
                  const absl::StatusOr<std::string_view> payload =
                      Unseal(kJournal, key, value);
                  if (!found.ok() || *found != next) {
                    wrong = JournalDamaged(uid, next, "it is missing");
                  } else if (!payload.ok()) {
                    wrong = JournalDamaged(
                        uid, next, std::string(payload.status().message()));
                  } else {
                    stopped = !read(next++, *payload);
                  }
                  return wrong.ok() && !stopped;
                }));
  MNEME_RETURN_IF_ERROR(wrong);
  if (!stopped && next < ends->next_seq) {
    return JournalDamaged(uid, next, "it is missing");
  }
  return absl::OkStatus();
}

absl::StatusOr<FoundSession> KvSessionStore::ReadSession(
    const std::string& uid, std::string_view value) const {
  MNEME_ASSIGN_OR_RETURN(const std::string_view payload,
                         Unseal(kMeta, RecordKey(uid), value));
  FoundSession found;
  MNEME_ASSIGN_OR_RETURN(found.record, DecodeSessionRecord(payload));
  if (found.record.uid != UidHex(uid)) {
    return absl::DataLossError(
        absl::StrCat("its record has uid ", found.record.uid));
  }
  const absl::optional<SessionEnds> ends = index_.Find(uid);
  if (!ends.has_value()) return found;
  if (ends->damaged) {
    found.damage = "the end of its journal is missing";
    return found;
  }
  if (!ends->active()) return found;
  const uint64_t last = ends->next_seq - 1;
  absl::StatusOr<absl::optional<std::string>> entry =
      GetSealed(*kv_, kJournal, JournalKey(uid, last));
  if (absl::IsDataLoss(entry.status())) {
    found.damage = std::string(entry.status().message());
    return found;
  }
  MNEME_RETURN_IF_ERROR(entry.status());
  if (!entry->has_value()) {
    found.damage = absl::StrCat("journal record ", last, " is missing");
    return found;
  }
  found.journal = JournalEnd{ends->next_seq, **std::move(entry)};
  return found;
}

absl::Status KvSessionStore::ReadSessions(
    absl::FunctionRef<void(FoundSession session)> read,
    absl::FunctionRef<void(const std::string& uid, const absl::Status& error)>
        damaged) const {
  absl::Status failed;
  MNEME_RETURN_IF_ERROR(
      kv_->Scan(kMeta, kRecordPrefix, BehindPrefix(kRecordPrefix),
                [&](std::string_view key, std::string_view value) {
                  const std::string uid(key.substr(sizeof kRecordPrefix - 1));
                  absl::StatusOr<FoundSession> found = ReadSession(uid, value);
                  if (found.ok()) {
                    read(*std::move(found));
                  } else if (absl::IsDataLoss(found.status())) {
                    damaged(UidHex(uid), absl::DataLossError(absl::StrCat(
                                             "session ", UidHex(uid), ": ",
                                             found.status().message())));
                  } else {
                    failed = found.status();
                  }
                  return failed.ok();
                }));
  MNEME_RETURN_IF_ERROR(failed);
  // A mark without a record: the record is lost.
  return kv_->Scan(
      kMeta, kActivePrefix, BehindPrefix(kActivePrefix),
      [&](std::string_view key, std::string_view /*value*/) {
        const std::string uid(key.substr(sizeof kActivePrefix - 1));
        if (!index_.Find(uid).has_value()) {
          damaged(UidHex(uid),
                  absl::DataLossError(absl::StrCat("session ", UidHex(uid),
                                                   ": its record is missing")));
        }
        return true;
      });
}

absl::Status KvSessionStore::VerifySession(const std::string& uid) const {
  MNEME_ASSIGN_OR_RETURN(const std::string bytes, UidBytes(uid));
  MNEME_ASSIGN_OR_RETURN(const absl::optional<std::string> value,
                         kv_->Get(kMeta, RecordKey(bytes)));
  if (!value.has_value()) return NotThere(uid);
  std::set<std::string> faults;
  const auto note = [&](const absl::Status& status) {
    if (absl::IsDataLoss(status)) faults.emplace(status.message());
    return status.ok() || absl::IsDataLoss(status);
  };
  const absl::StatusOr<FoundSession> session = ReadSession(bytes, *value);
  if (!note(session.status())) return session.status();
  if (session.ok() && !session->damage.empty()) {
    faults.insert(session->damage);
  }
  if (session.ok()) {
    // The journal reaches back to the oldest automatic snapshot at least.
    uint64_t seq = session->record.replay_seq;
    for (const StoredSnapshot& snapshot : session->record.ring) {
      seq = std::min(seq, snapshot.next_seq);
    }
    const absl::Status first =
        kv_->Scan(kJournal, JournalKey(bytes, 0), JournalKey(bytes, seq),
                  [&](std::string_view key, std::string_view /*value*/) {
                    seq = NumberAtEnd(key).value_or(seq);
                    return false;
                  });
    if (!note(first)) return first;
    std::string contents;
    for (const uint64_t blob : BlobsOf(session->record)) {
      const absl::Status status = ReadBlob(blob, contents);
      if (!note(status)) return status;
    }
    const absl::Status status =
        ReadJournal(uid, seq, [](uint64_t, std::string_view) { return true; });
    if (!note(status)) return status;
  }
  if (faults.empty()) return absl::OkStatus();
  return absl::DataLossError(absl::StrJoin(faults, "; "));
}

absl::StatusOr<std::vector<RememberedRequest>> KvSessionStore::ReadRequests()
    const {
  std::vector<RememberedRequest> requests;
  MNEME_RETURN_IF_ERROR(kv_->Scan(
      kMeta, kRequestPrefix, BehindPrefix(kRequestPrefix),
      [&](std::string_view key, std::string_view value) {
        const absl::StatusOr<std::string_view> payload =
            Unseal(kMeta, key, value);
        absl::StatusOr<AgedRequest> aged =
            payload.ok() ? DecodeAgedRequest(*payload) : payload.status();
        if (aged.ok()) {
          requests.push_back(std::move(aged->request));
        } else {
          LogWarning("a remembered request is damaged, and forgotten: ",
                     std::string(aged.status().message()));
        }
        return true;
      }));
  return requests;
}

}  // namespace mneme
