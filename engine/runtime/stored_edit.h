// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_STORED_EDIT_H_
#define MNEME_ENGINE_RUNTIME_STORED_EDIT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
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
  // `end_seq`: behind its journal; `next_offset`: behind its history.
  StoredEdit(SessionRecord record, uint64_t end_seq, int64_t next_offset);

  // As if it had just been made.
  void Empty();
  // To what it was when the snapshot was taken. Errors as FindSnapshot.
  absl::Status TakeBack(const std::string& snapshot);
  // To the first `offset` of its history. Errors as CheckKept; OUT_OF_RANGE
  // too if a token goes across the offset; DATA_LOSS. Blocks.
  absl::Status CutAt(int64_t offset, const SessionStore& store);

  SessionRecord& record() { return record_; }
  // With everything but the record and the request.
  StoreWrite& write() { return write_; }
  // What the journal ends with afterwards; none: it is empty.
  const absl::optional<JournalEnd>& journal() const { return journal_; }

 private:
  void DropJournal();

  SessionRecord record_;
  const uint64_t end_seq_;
  const int64_t next_offset_;
  StoreWrite write_;
  absl::optional<JournalEnd> journal_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_STORED_EDIT_H_
