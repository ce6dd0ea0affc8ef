// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_STORED_JOURNAL_H_
#define MNEME_ENGINE_RUNTIME_STORED_JOURNAL_H_

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/runtime/session_writes.h"
#include "engine/runtime/task.h"
#include "engine/store/journal_record.h"
#include "engine/store/session_store.h"

namespace mneme {

// Told of the bytes of memory that the records read so far take together, it
// may end the reading with an error.
using HoldJournal = absl::FunctionRef<absl::Status(int64_t bytes)>;

// What the journal of a session says from a snapshot on.
struct StoredJournal {
  std::vector<JournalRecord> records;
  int64_t bytes = 0;  // that they take in the store
};
// From `begin` to record `end_seq`, which is not read. DATA_LOSS if a record is
// damaged or missing, or does not begin where the one before it ends; what
// `hold` returns. Blocks.
absl::StatusOr<StoredJournal> ReadStoredJournal(
    const SessionStore& store, const std::string& uid,
    const SessionWrites::Place& begin, uint64_t end_seq, HoldJournal hold);

// Where the journal of a session begins.
SessionWrites::Place JournalBegin(const SessionRecord& record);

// Whether what the journal, which begins at `begin`, has of `bytes` is the
// same: bytes as a history counts them, `unit_bytes` for each step of an
// offset, that were sent for `offset`. Errors as ReadStoredJournal. Blocks.
absl::StatusOr<bool> JournalAgrees(const SessionStore& store,
                                   const std::string& uid,
                                   const SessionWrites::Place& begin,
                                   int64_t unit_bytes, int64_t offset,
                                   std::string_view bytes);

// A journal, one event after the other.
class JournalReplay {
 public:
  // An Ask with all that the journal says of what came of it.
  struct Asked {
    AskRecord ask;
    ReplayedTask task;
  };
  using Event = std::variant<InputRecord, Asked>;

  // `offset`: of the history before the records.
  JournalReplay(std::vector<JournalRecord> records, int64_t offset)
      : records_(std::move_iterator(records.begin()),
                 std::move_iterator(records.end())),
        offset_(offset) {}

  bool done() const { return records_.empty(); }
  // Of the history behind what was given out.
  int64_t offset() const { return offset_; }
  // REQUIRES: not done. DATA_LOSS if the next are tokens that nothing asked
  // for.
  absl::StatusOr<Event> Next();

 private:
  JournalRecord Take();

  std::deque<JournalRecord> records_;
  int64_t offset_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_STORED_JOURNAL_H_
