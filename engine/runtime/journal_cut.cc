// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/journal_cut.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/runtime/history.h"

namespace mneme {
namespace {

// As generations count them.
const auto kCancelled = static_cast<uint8_t>(FinishReason::kCancelled);

JournalRecord InputUpTo(const JournalRecord& record, const std::string& bytes,
                        const std::string& role, bool end_of_turn,
                        int64_t offset, int64_t unit_bytes) {
  const int64_t wanted = (offset - record.offset) * unit_bytes;
  const bool whole = wanted == static_cast<int64_t>(bytes.size());
  return {.time = record.time,
          .offset = record.offset,
          .end_offset = offset,
          .body = InputRecord{.role = role,
                              .end_of_turn = whole && end_of_turn,
                              .bytes = bytes.substr(0, wanted)}};
}

}  // namespace

absl::Status OffsetNotKept(int64_t offset, int64_t nearest) {
  return WithReason(absl::OutOfRangeError(absl::StrCat(
                        "offset: found ", offset,
                        ", which is not kept; the nearest is ", nearest)),
                    {.reason = "OFFSET_NOT_KEPT",
                     .metadata = {{"nearest_offset", absl::StrCat(nearest)}}});
}

absl::StatusOr<std::vector<JournalRecord>> CutJournal(
    const std::vector<JournalRecord>& records, SessionUnit unit,
    int64_t offset) {
  const int64_t unit_bytes = UnitBytes(unit);
  std::vector<JournalRecord> kept;
  bool answering = false;  // the last Ask that is kept has no end yet
  size_t next = 0;
  for (; next < records.size(); ++next) {
    const JournalRecord& record = records[next];
    if (const auto* input = std::get_if<InputRecord>(&record.body)) {
      if (record.offset >= offset) break;
      answering = false;
      if (record.end_offset <= offset) {
        kept.push_back(record);
        continue;
      }
      kept.push_back(InputUpTo(record, input->bytes, input->role,
                               input->end_of_turn, offset, unit_bytes));
      break;
    }
    if (const auto* ask = std::get_if<AskRecord>(&record.body)) {
      if (record.offset >= offset) break;
      if (record.end_offset >= offset) {
        kept.push_back(InputUpTo(record, ask->prompt, ask->prompt_role,
                                 !ask->prompt_role.empty(), offset,
                                 unit_bytes));
        break;
      }
      kept.push_back(record);
      answering = true;
      continue;
    }
    const auto& said = std::get<SaidRecord>(record.body);
    int64_t at = record.offset;
    SaidRecord part;
    for (const TakenToken& token : said.tokens) {
      const int64_t end =
          at + static_cast<int64_t>(token.bytes.size()) / unit_bytes;
      if (at >= offset && end > at) break;
      if (end > offset) {
        return OffsetNotKept(offset, offset - at < end - offset ? at : end);
      }
      part.tokens.push_back(token);
      at = end;
    }
    const bool whole = part.tokens.size() == said.tokens.size();
    if (whole) part.end = said.end;
    answering = !part.end.has_value();
    kept.push_back({.time = record.time,
                    .offset = record.offset,
                    .end_offset = at,
                    .body = std::move(part)});
    if (!whole) break;
  }
  if (answering) {
    const JournalRecord last = kept.back();
    kept.push_back(
        {.time = last.time,
         .offset = last.end_offset,
         .end_offset = last.end_offset,
         .body = SaidRecord{.end = EndRecord{.reason = kCancelled,
                                             .computed_tokens = INT64_MAX}}});
  }
  return kept;
}

}  // namespace mneme
