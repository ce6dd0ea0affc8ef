// SPDX-License-Identifier: Apache-2.0
//
// Format version 2, bit for bit: what was once written is read for ever.
// MNEME_WRITE_GOLDEN=1 writes the files anew.
#include <cstdlib>
#include <string>

#include "engine/store/journal_record.h"
#include "engine/store/record_coding.h"
#include "engine/store/store_keys.h"
#include "gtest/gtest.h"
#include "tests/store/store_fixture.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

const absl::Time kTime = absl::FromUnixNanos(1700000000123456789);

// The file's contents, which are `bytes`.
std::string Golden(const std::string& name, const std::string& bytes) {
  const std::string path = std::string(MNEME_TEST_DATA "/store/") + name;
  if (std::getenv("MNEME_WRITE_GOLDEN") != nullptr) WriteFile(path, bytes);
  const std::string golden = ReadFile(path);
  EXPECT_EQ(golden, bytes) << name;
  return golden;
}

void ExpectGolden(const std::string& name, const JournalRecord& record) {
  const std::string golden = Golden(name, EncodeJournalRecord(record));
  const absl::StatusOr<JournalRecord> decoded = DecodeJournalRecord(golden);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(*decoded, record);
}

TEST(GoldenTest, JournalRecords) {
  ExpectGolden("journal_input.bin",
               {.time = kTime,
                .offset = 4096,
                .end_offset = 4102,
                .body = InputRecord{
                    .role = "user", .end_of_turn = true, .bytes = "Hello."}});
  ExpectGolden("journal_ask.bin",
               {.time = kTime,
                .offset = 4102,
                .end_offset = 4106,
                .body = AskRecord{.kind = AskRecord::Kind::kScore,
                                  .position = 1000,
                                  .prompt = "Why?",
                                  .prompt_role = "user",
                                  .begins_reply = true,
                                  .request_id = "request-1",
                                  .request_digest = "digest-1",
                                  .options = "options"}});
  ExpectGolden("journal_said.bin",
               {.time = kTime,
                .offset = 4106,
                .end_offset = 4109,
                .body = SaidRecord{.tokens = {{17, "Be"}, {70000, "!"}},
                                   .end = EndRecord{.reason = 3,
                                                    .status_code = 4,
                                                    .message = "late",
                                                    .computed_tokens = 1002}}});
}

TEST(GoldenTest, SessionRecord) {
  SessionRecord record = Record(258, 12);
  record.epoch = 3;
  record.revision = 9;
  record.counts_tokens = true;
  record.model_fingerprint = "fingerprint";
  record.arithmetic_level = "avx2";
  record.labels = {{"kind", "test"}, {"team", ""}};
  record.ttl = absl::Minutes(90);
  record.snapshot_interval_tokens = 4096;
  record.quarantine = "a checksum failed";
  record.update_time = kTime;
  record.ring = {{.blob = 7,
                  .next_seq = 10,
                  .offset = 4096,
                  .position = 1000,
                  .pending_tokens = 3,
                  .pending_bytes = 2,
                  .state_digest = "state",
                  .history_digest = "history",
                  .model_fingerprint = "fingerprint",
                  .stored_bytes = 123456,
                  .create_time = kTime}};
  record.named["kept"] = record.ring[0];
  record.named["kept"].name = "kept";
  const absl::StatusOr<SessionRecord> decoded = DecodeSessionRecord(
      Golden("session_record.bin", EncodeSessionRecord(record)));
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(*decoded, record);
}

TEST(GoldenTest, RememberedRequest) {
  const AgedRequest aged{.store_age = absl::Seconds(3661),
                         .request = {.id = "request-1",
                                     .digest = "digest-1",
                                     .reply = "reply",
                                     .time = kTime}};
  const absl::StatusOr<AgedRequest> decoded =
      DecodeAgedRequest(Golden("request.bin", EncodeAgedRequest(aged)));
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(*decoded, aged);
}

TEST(GoldenTest, SealedValue) {
  const std::string key = JournalKey(*UidBytes(Uid(258)), 513);
  const std::string golden =
      Golden("sealed.bin", Seal(KvStore::Space::kJournal, key, "payload"));
  const auto payload = Unseal(KvStore::Space::kJournal, key, golden);
  ASSERT_THAT(payload, IsOk());
  EXPECT_EQ(*payload, "payload");
  const std::string other = JournalKey(*UidBytes(Uid(258)), 514);
  EXPECT_THAT(Unseal(KvStore::Space::kJournal, other, golden),
              Fails(absl::StatusCode::kDataLoss, "checksum"));
  EXPECT_THAT(Unseal(KvStore::Space::kMeta, key, golden),
              Fails(absl::StatusCode::kDataLoss, "checksum"));
}

}  // namespace
}  // namespace mneme
