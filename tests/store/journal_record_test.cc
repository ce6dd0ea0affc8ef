// SPDX-License-Identifier: Apache-2.0
#include "engine/store/journal_record.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

std::vector<JournalRecord> Examples() {
  const absl::Time time = absl::FromUnixSeconds(1700000000);
  return {
      {.time = time,
       .offset = 4096,
       .end_offset = 4099,
       .body = InputRecord{.role = "user",
                           .end_of_turn = true,
                           .bytes = std::string("a\0b", 3)}},
      {.time = time, .body = InputRecord{}},
      {.time = time,
       .offset = 7,
       .end_offset = 12,
       .body = AskRecord{.kind = AskRecord::Kind::kCommitSegment,
                         .position = 3,
                         .prompt = "What?",
                         .prompt_role = "user",
                         .begins_reply = true,
                         .request_id = "r1",
                         .request_digest = "d1",
                         .options = "opaque"}},
      {.time = time,
       .offset = 12,
       .end_offset = 14,
       .body = SaidRecord{.tokens = {{1, "a"}, {2, ""}, {2147483647, "b"}},
                          .end = EndRecord{.reason = 7,
                                           .status_code = 14,
                                           .message = "it went away",
                                           .computed_tokens = 6}}},
      {.time = time, .body = SaidRecord{}},
  };
}

TEST(JournalRecordTest, WhatIsEncodedIsDecoded) {
  for (const JournalRecord& record : Examples()) {
    const absl::StatusOr<JournalRecord> decoded =
        DecodeJournalRecord(EncodeJournalRecord(record));
    ASSERT_THAT(decoded, IsOk());
    EXPECT_EQ(*decoded, record);
  }
}

TEST(JournalRecordTest, EveryByteIsAccountedFor) {
  for (const JournalRecord& record : Examples()) {
    const std::string bytes = EncodeJournalRecord(record);
    for (size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_THAT(DecodeJournalRecord(bytes.substr(0, size)),
                  Fails(absl::StatusCode::kDataLoss, ""));
    }
    EXPECT_THAT(DecodeJournalRecord(bytes + '\0'),
                Fails(absl::StatusCode::kDataLoss, ""));
  }
}

TEST(JournalRecordTest, DecodedBytesAreTheirOnlySpelling) {
  for (const JournalRecord& record : Examples()) {
    std::string bytes = EncodeJournalRecord(record);
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
      const absl::StatusOr<JournalRecord> decoded = DecodeJournalRecord(bytes);
      if (decoded.ok()) {
        EXPECT_EQ(EncodeJournalRecord(*decoded), bytes) << "bit " << bit;
      }
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    }
  }
}

TEST(JournalRecordTest, AnotherVersionIsNamed) {
  std::string bytes = EncodeJournalRecord(Examples()[0]);
  bytes[0] = 2;
  EXPECT_THAT(DecodeJournalRecord(bytes),
              Fails(absl::StatusCode::kDataLoss, "version"));
}

}  // namespace
}  // namespace mneme
