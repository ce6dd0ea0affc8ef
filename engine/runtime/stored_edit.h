// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_STORED_EDIT_H_
#define MNEME_ENGINE_RUNTIME_STORED_EDIT_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/runtime/session_writes.h"
#include "engine/runtime/stored_journal.h"
#include "engine/runtime/types.h"
#include "engine/store/session_store.h"

namespace mneme {

// What clients call a snapshot; an automatic one has a name of ours.
std::string SnapshotName(const StoredSnapshot& snapshot);
// NOT_FOUND (SNAPSHOT_NOT_FOUND).
absl::Status SnapshotNotFound(const std::string& session,
                              const std::string& name);
// Errors as that.
absl::StatusOr<StoredSnapshot> FindSnapshot(const SessionRecord& record,
                                            const std::string& name);

// A session's history may be taken back to this offset, as far as its record
// says: OUT_OF_RANGE (OFFSET_NOT_KEPT) naming the nearest that is kept.
absl::Status CheckKept(const SessionRecord& record, int64_t next_offset,
                       int64_t offset);

// A change of all that is stored of a session: what it had, and what it is to
// have.
class StoredEdit {
 public:
  // `end`: of its journal, and so of its history.
  StoredEdit(SessionRecord record, const SessionWrites::Place& end)
      : record_(std::move(record)), had_(end), has_(end) {}

  // As if it had just been made.
  void Empty();
  // To what it was when the snapshot was taken. Errors as FindSnapshot.
  absl::Status TakeBack(const std::string& snapshot);
  // To the first `offset` of its history. Errors as CheckKept; OUT_OF_RANGE
  // too if a token goes across the offset; DATA_LOSS; what `hold` returns.
  // Blocks.
  absl::Status CutAt(int64_t offset, const SessionStore& store,
                     HoldJournal hold);

  // Changes what it has to in the session's record, which may have been changed
  // otherwise since; what was quarantined is whole again.
  void Apply(SessionRecord& record) const;
  // Changes what it has to of the journal, in a write that does nothing else.
  void Apply(StoreWrite& write) const;
  // Where the journal ends then.
  const SessionWrites::Place& end() const { return has_; }

 private:
  // The journal is empty and goes on at `seq`, and the history at `offset`.
  void DropJournal(uint64_t seq, int64_t offset);

  SessionRecord record_;
  const SessionWrites::Place had_;
  SessionWrites::Place has_;
  uint64_t drop_journal_from_ = 0;
  absl::optional<uint64_t> drop_journal_before_;
  std::vector<JournalEntry> append_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_STORED_EDIT_H_
