// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/stored_edit.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/runtime/journal_cut.h"
#include "engine/runtime/stored_journal.h"

namespace mneme {

std::string SnapshotName(const StoredSnapshot& snapshot) {
  return snapshot.name.empty() ? absl::StrCat("auto-", snapshot.blob)
                               : snapshot.name;
}

absl::Status SnapshotNotFound(const std::string& session,
                              const std::string& name) {
  return WithReason(absl::NotFoundError(absl::StrCat(
                        "session ", session, " has no snapshot ", name)),
                    {.reason = "SNAPSHOT_NOT_FOUND", .metadata = {}});
}

absl::StatusOr<StoredSnapshot> FindSnapshot(const SessionRecord& record,
                                            const std::string& name) {
  const auto named = record.named.find(name);
  if (named != record.named.end()) return named->second;
  for (const StoredSnapshot& snapshot : record.ring) {
    if (SnapshotName(snapshot) == name) return snapshot;
  }
  return SnapshotNotFound(record.id, name);
}

absl::Status CheckKept(const SessionRecord& record, int64_t next_offset,
                       int64_t offset) {
  if (offset < 0 || offset > next_offset) {
    return OffsetNotKept(offset, offset < 0 ? 0 : next_offset);
  }
  const int64_t oldest = record.start_seq.has_value() || record.ring.empty()
                             ? 0
                             : record.ring.front().offset;
  // Nothing has to be kept of what is emptied.
  if (offset > 0 && offset < oldest) return OffsetNotKept(offset, oldest);
  return absl::OkStatus();
}

void StoredEdit::DropJournal(uint64_t seq, int64_t offset) {
  record_.replay_seq = seq;
  record_.start_seq.reset();
  drop_journal_from_ = seq;
  drop_journal_before_ = seq;
  has_ = {.seq = seq, .offset = offset};
}

void StoredEdit::Empty() {
  record_.ring.clear();
  DropJournal(had_.seq, /*offset=*/0);
  record_.start_seq = had_.seq;
}

absl::Status StoredEdit::TakeBack(const std::string& snapshot) {
  MNEME_ASSIGN_OR_RETURN(StoredSnapshot target,
                         FindSnapshot(record_, snapshot));
  target.name.clear();
  // What the session began with stays before its journal: the reply in there
  // is not its own.
  if (target.next_seq > 0) target.next_seq = had_.seq;
  DropJournal(target.next_seq, target.offset);
  record_.ring = {std::move(target)};
  return absl::OkStatus();
}

absl::Status StoredEdit::CutAt(int64_t offset, const SessionStore& store,
                               HoldJournal hold) {
  MNEME_RETURN_IF_ERROR(CheckKept(record_, had_.offset, offset));
  if (offset == 0) {
    Empty();
    return absl::OkStatus();
  }
  // From the last snapshot that is not behind it, or from the beginning. One
  // that stands right there may hold what came later without any bytes.
  std::vector<StoredSnapshot>& ring = record_.ring;
  const auto behind = [&](const StoredSnapshot& snapshot) {
    const bool needed = ring.size() == 1 && !record_.start_seq.has_value();
    return snapshot.offset > offset ||
           (snapshot.offset == offset && offset < had_.offset && !needed);
  };
  if (!ring.empty()) {
    while (!ring.empty() && behind(ring.back())) ring.pop_back();
    record_.replay_seq =
        ring.empty() ? *record_.start_seq : ring.back().next_seq;
  }
  const uint64_t seq = record_.replay_seq;
  const SessionWrites::Place begin{
      .seq = seq, .offset = ring.empty() ? 0 : ring.back().offset};
  MNEME_ASSIGN_OR_RETURN(
      const StoredJournal had,
      ReadStoredJournal(store, record_.uid, begin, had_.seq,
                        // What it has, and what is kept of that.
                        [&](int64_t bytes) { return hold(2 * bytes); }));
  // At its end nothing is cut, but an answer that runs ends.
  MNEME_ASSIGN_OR_RETURN(
      const std::vector<JournalRecord> kept,
      CutJournal(
          had.records,
          record_.counts_tokens ? SessionUnit::kTokens : SessionUnit::kText,
          offset == had_.offset ? std::numeric_limits<int64_t>::max()
                                : offset));
  const auto first_other = std::mismatch(kept.begin(), kept.end(),
                                         had.records.begin(), had.records.end())
                               .first;
  has_ = {.seq = seq + kept.size(),
          .offset = kept.empty() ? begin.offset : kept.back().end_offset};
  drop_journal_from_ = seq + static_cast<uint64_t>(first_other - kept.begin());
  uint64_t next_seq = drop_journal_from_;
  for (auto record = first_other; record != kept.end(); ++record) {
    append_.push_back(
        {.seq = next_seq++, .payload = EncodeJournalRecord(*record)});
  }
  return absl::OkStatus();
}

void StoredEdit::Apply(SessionRecord& record) const {
  record.ring = record_.ring;
  record.replay_seq = record_.replay_seq;
  record.start_seq = record_.start_seq;
  record.quarantine.clear();
  record.good_snapshot.clear();
}

void StoredEdit::Apply(StoreWrite& write) const {
  write.drop_journal_from = drop_journal_from_;
  write.drop_journal_before = drop_journal_before_;
  write.append = append_;
}

}  // namespace mneme
