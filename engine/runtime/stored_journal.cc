// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/stored_journal.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace mneme {

namespace {

// What a record adds to the history, in its order.
std::vector<std::string_view> PiecesOf(const JournalRecord& record) {
  if (const auto* input = std::get_if<InputRecord>(&record.body)) {
    return {input->bytes};
  }
  if (const auto* ask = std::get_if<AskRecord>(&record.body)) {
    return {ask->prompt};
  }
  std::vector<std::string_view> pieces;
  for (const TakenToken& token : std::get<SaidRecord>(record.body).tokens) {
    pieces.push_back(token.bytes);
  }
  return pieces;
}

// What a record takes at most, decoded.
int64_t MemoryBytes(const JournalRecord& record) {
  // Fields that are short, and a vector's room to grow.
  int64_t bytes = 2 * sizeof(JournalRecord) + 1024;
  if (const auto* said = std::get_if<SaidRecord>(&record.body)) {
    bytes += 2 * static_cast<int64_t>(said->tokens.size() * sizeof(TakenToken));
  }
  for (const std::string_view piece : PiecesOf(record)) {
    bytes += static_cast<int64_t>(piece.size());
  }
  return bytes;
}

}  // namespace

absl::StatusOr<StoredJournal> ReadStoredJournal(
    const SessionStore& store, const std::string& uid,
    const SessionWrites::Place& begin, uint64_t end_seq, HoldJournal hold) {
  StoredJournal journal;
  int64_t memory_bytes = 0;
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
      memory_bytes += MemoryBytes(*record);
      wrong = hold(memory_bytes);
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

SessionWrites::Place JournalBegin(const SessionRecord& record) {
  if (record.start_seq.has_value() || record.ring.empty()) {
    return {.seq = record.start_seq.value_or(record.replay_seq), .offset = 0};
  }
  return {.seq = record.ring.front().next_seq,
          .offset = record.ring.front().offset};
}

absl::StatusOr<bool> JournalAgrees(const SessionStore& store,
                                   const std::string& uid,
                                   const SessionWrites::Place& begin,
                                   int64_t unit_bytes, int64_t offset,
                                   std::string_view bytes) {
  const int64_t first = offset * unit_bytes;
  const int64_t last = first + static_cast<int64_t>(bytes.size());
  bool agrees = true;
  absl::Status wrong;
  const auto read = [&](uint64_t /*seq*/, std::string_view payload) {
    const absl::StatusOr<JournalRecord> record = DecodeJournalRecord(payload);
    wrong = record.status();
    if (!wrong.ok()) return false;
    int64_t at = record->offset * unit_bytes;
    if (at >= last) return false;
    for (const std::string_view piece : PiecesOf(*record)) {
      const auto size = static_cast<int64_t>(piece.size());
      const int64_t from = std::max(at, first);
      const int64_t to = std::min(at + size, last);
      if (from < to) {
        agrees = agrees && piece.substr(from - at, to - from) ==
                               bytes.substr(from - first, to - from);
      }
      at += size;
    }
    return agrees;
  };
  MNEME_RETURN_IF_ERROR(store.ReadJournal(uid, begin.seq, read));
  MNEME_RETURN_IF_ERROR(wrong);
  return agrees;
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
