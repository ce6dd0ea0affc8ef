// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/stored_journal.h"

#include <iterator>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace mneme {

absl::StatusOr<StoredJournal> ReadStoredJournal(
    const SessionStore& store, const std::string& uid,
    const SessionWrites::Place& begin, uint64_t end_seq) {
  StoredJournal journal;
  SessionWrites::Place at = begin;
  absl::Status wrong;
  const auto read = [&](uint64_t seq, std::string_view payload) {
    if (seq >= end_seq) return false;
    absl::StatusOr<JournalRecord> record = DecodeJournalRecord(payload);
    if (!record.ok()) {
      wrong = absl::DataLossError(
          absl::StrCat("journal record ", seq, ": ",
                       std::string(record.status().message())));
    } else if (record->offset != at.offset) {
      wrong = absl::DataLossError(
          absl::StrCat("journal record ", seq, " begins at offset ",
                       record->offset, ", wanted ", at.offset));
    } else {
      at = {.seq = seq + 1, .offset = record->end_offset};
      journal.bytes += static_cast<int64_t>(payload.size());
      journal.records.push_back(*std::move(record));
    }
    return wrong.ok();
  };
  MNEME_RETURN_IF_ERROR(store.ReadJournal(uid, begin.seq, read));
  if (wrong.ok() && at.seq < end_seq) {
    wrong = absl::DataLossError(
        absl::StrCat("journal record ", at.seq, " is missing"));
  }
  MNEME_RETURN_IF_ERROR(wrong);
  return journal;
}

JournalRecord JournalReplay::Take() {
  JournalRecord record = std::move(records_.front());
  records_.pop_front();
  offset_ = record.end_offset;
  return record;
}

absl::StatusOr<JournalReplay::Event> JournalReplay::Next() {
  JournalRecord record = Take();
  if (auto* input = std::get_if<InputRecord>(&record.body)) {
    return Event(std::move(*input));
  }
  auto* ask = std::get_if<AskRecord>(&record.body);
  if (ask == nullptr) {
    return absl::DataLossError("the journal has tokens that nothing asked for");
  }
  Asked asked{.ask = std::move(*ask), .task = {}};
  while (!records_.empty() && !asked.task.end.has_value() &&
         std::holds_alternative<SaidRecord>(records_.front().body)) {
    auto said = std::get<SaidRecord>(Take().body);
    std::move(said.tokens.begin(), said.tokens.end(),
              std::back_inserter(asked.task.said));
    asked.task.end = std::move(said.end);
  }
  return Event(std::move(asked));
}

}  // namespace mneme
