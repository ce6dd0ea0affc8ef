// SPDX-License-Identifier: Apache-2.0
#include "engine/store/kv_session_store.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/store/memory/memory_kv_store.h"
#include "engine/store/open_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/store/store_fixture.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class KvSessionStoreTest : public ::testing::Test {
 protected:
  KvSessionStoreTest() { Reopen(); }

  void Reopen() {
    store_.reset();
    auto opened = OpenRocksDbStore(dir_.File("store"), {});
    ASSERT_THAT(opened, IsOk());
    store_ = *std::move(opened);
  }
  absl::Status Write(StoreWrite write) {
    return WriteNow(*store_, std::move(write));
  }
  uint64_t Blob(const std::string& contents) {
    const absl::StatusOr<uint64_t> blob = MakeBlob(*store_, contents);
    EXPECT_THAT(blob, IsOk());
    return blob.value_or(0);
  }

  TempDir dir_;
  std::unique_ptr<SessionStore> store_;
};

TEST_F(KvSessionStoreTest, ARecordIsThereAfterReopening) {
  SessionRecord record = RecordWithBlob(1, Blob("state"), 7);
  record.labels = {{"a", "1"}, {"b", ""}};
  record.ttl = absl::Hours(5);
  record.named["n"] = {.name = "n", .blob = record.ring[0].blob};
  ASSERT_THAT(Write(PutRecord(record)), IsOk());
  Reopen();
  const auto sessions = Sessions(*store_);
  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions.at("session-1").record, record);
  EXPECT_FALSE(sessions.at("session-1").journal.has_value());
}

TEST_F(KvSessionStoreTest, AJournalIsReadFromWhereItIsAskedFor) {
  ASSERT_THAT(Write(PutRecord(Record(1))), IsOk());
  ASSERT_THAT(Write(Append(1, 0, {"a", "b"})), IsOk());
  ASSERT_THAT(Write(Append(1, 2, {"c"})), IsOk());
  Reopen();
  EXPECT_THAT(Journal(*store_, 1), ElementsAre("a", "b", "c"));
  EXPECT_THAT(Journal(*store_, 1, 2), ElementsAre("c"));
  EXPECT_THAT(Journal(*store_, 1, 3), IsEmpty());
  EXPECT_THAT(store_->ReadJournal(
                  Uid(2), 0, [](uint64_t, std::string_view) { return true; }),
              Fails(absl::StatusCode::kNotFound, Uid(2)));
}

TEST_F(KvSessionStoreTest, OnlyActiveSessionsHaveAJournalsEnd) {
  ASSERT_THAT(Write(PutRecord(Record(1))), IsOk());
  ASSERT_THAT(Write(Append(1, 0, {"a", "b"})), IsOk());
  Reopen();
  auto session = Sessions(*store_).at("session-1");
  ASSERT_TRUE(session.journal.has_value());
  EXPECT_EQ(session.journal->next_seq, 2u);
  EXPECT_EQ(session.journal->last, "b");
  ASSERT_THAT(Write(PutRecord(Record(1, 2))), IsOk());
  Reopen();
  EXPECT_FALSE(Sessions(*store_).at("session-1").journal.has_value());
  EXPECT_THAT(Journal(*store_, 1), ElementsAre("a", "b"));
  ASSERT_THAT(Write(Append(1, 2, {"c"})), IsOk());
  EXPECT_TRUE(Sessions(*store_).at("session-1").journal.has_value());
}

TEST_F(KvSessionStoreTest, JournalRecordsAreDroppedFromBothEnds) {
  ASSERT_THAT(Write(PutRecord(Record(1))), IsOk());
  ASSERT_THAT(Write(Append(1, 0, {"a", "b", "c", "d"})), IsOk());
  StoreWrite write = PutRecord(Record(1, 2));
  write.drop_journal_before = 1;
  write.drop_journal_from = 2;
  write.append = {{2, "C"}};
  ASSERT_THAT(Write(write), IsOk());
  EXPECT_THAT(Journal(*store_, 1, 1), ElementsAre("b", "C"));
}

TEST_F(KvSessionStoreTest, AGapInTheJournalIsRefused) {
  ASSERT_THAT(Write(PutRecord(Record(1))), IsOk());
  EXPECT_THAT(Write(Append(1, 1, {"b"})),
              Fails(absl::StatusCode::kInternal, "record 1, want 0"));
}

TEST_F(KvSessionStoreTest, ABlobComesBackWhateverItsSize) {
  for (const size_t size : {0, 1, 1 << 20, (1 << 20) + 1, 5 << 20}) {
    std::string contents(size, 'x');
    for (size_t i = 0; i < size; i += 997) contents[i] = static_cast<char>(i);
    const absl::StatusOr<std::string> read = ReadBlob(*store_, Blob(contents));
    ASSERT_THAT(read, IsOk());
    EXPECT_TRUE(*read == contents) << size;
  }
}

TEST_F(KvSessionStoreTest, ABlobGoesWithItsLastReference) {
  const uint64_t blob = Blob("state");
  ASSERT_THAT(Write(PutRecord(RecordWithBlob(1, blob))), IsOk());
  ASSERT_THAT(Write(PutRecord(RecordWithBlob(2, blob))), IsOk());
  ASSERT_THAT(Write(Remove(1)), IsOk());
  Reopen();
  EXPECT_THAT(ReadBlob(*store_, blob), IsOk());
  ASSERT_THAT(Write(PutRecord(Record(2))), IsOk());
  store_->AwaitWrites();
  EXPECT_THAT(ReadBlob(*store_, blob),
              Fails(absl::StatusCode::kDataLoss, "not there"));
  EXPECT_THAT(Write(PutRecord(RecordWithBlob(3, blob))),
              Fails(absl::StatusCode::kFailedPrecondition, "no longer there"));
}

TEST_F(KvSessionStoreTest, ABlobOfNoRecordGoesWhenTheStoreIsOpened) {
  const uint64_t kept = Blob("kept");
  ASSERT_THAT(Write(PutRecord(RecordWithBlob(1, kept))), IsOk());
  const uint64_t orphan = Blob("orphan");
  const uint64_t dropped = Blob("dropped");
  store_->DropBlob(dropped);
  store_->DropBlob(kept);
  EXPECT_THAT(ReadBlob(*store_, orphan), IsOk());
  EXPECT_THAT(ReadBlob(*store_, dropped),
              Fails(absl::StatusCode::kDataLoss, ""));
  Reopen();
  EXPECT_THAT(ReadBlob(*store_, kept), IsOk());
  EXPECT_THAT(ReadBlob(*store_, orphan),
              Fails(absl::StatusCode::kDataLoss, ""));
  EXPECT_GT(Blob("new"), orphan);
}

TEST_F(KvSessionStoreTest, NothingIsLeftOfARemovedSession) {
  const uint64_t blob = Blob("state");
  ASSERT_THAT(Write(PutRecord(RecordWithBlob(1, blob))), IsOk());
  ASSERT_THAT(Write(Append(1, 0, {"a"})), IsOk());
  ASSERT_THAT(Write(Remove(1)), IsOk());
  Reopen();
  EXPECT_THAT(Sessions(*store_), IsEmpty());
  EXPECT_THAT(ReadBlob(*store_, blob), Fails(absl::StatusCode::kDataLoss, ""));
  EXPECT_THAT(Write(Append(1, 1, {"b"})),
              Fails(absl::StatusCode::kNotFound, Uid(1)));
  EXPECT_EQ(store_->stats().sessions, 0);
}

}  // namespace
}  // namespace mneme
