// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_JOURNAL_CUT_H_
#define MNEME_ENGINE_RUNTIME_JOURNAL_CUT_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/runtime/types.h"
#include "engine/store/journal_record.h"

namespace mneme {

// The records of a journal up to `offset`: those that end there or before, and
// what is left of one that goes beyond. An Ask whose answer begins there is not
// among them, but its prompt is; an answer that is cut ends there, as if it had
// been cancelled, with the tokens behind its last byte that have none.
// `records` is a journal from a snapshot on, in its order; `offset` is not
// before its first nor behind its last. OUT_OF_RANGE (OFFSET_NOT_KEPT) naming
// the nearest offset, if a token goes across it.
absl::StatusOr<std::vector<JournalRecord>> CutJournal(
    const std::vector<JournalRecord>& records, SessionUnit unit,
    int64_t offset);

absl::Status OffsetNotKept(int64_t offset, int64_t nearest);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_JOURNAL_CUT_H_
