// SPDX-License-Identifier: Apache-2.0
//
// What becomes of writes when the store below fails.
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "engine/store/kv_session_store.h"
#include "engine/store/memory/memory_kv_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/store/store_fixture.h"
#include "tests/support/fault_kv_store.h"
#include "tests/support/moved_clock.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Calls = KvFaults::Calls;

class SessionStoreFaultsTest : public ::testing::Test {
 protected:
  absl::Status Open(const SessionStoreOptions& options = {}) {
    store_.reset();
    auto opened = KvSessionStore::Open(
        std::make_unique<FaultKvStore>(kv_, faults_), options);
    if (!opened.ok()) return opened.status();
    store_ = *std::move(opened);
    return absl::OkStatus();
  }
  absl::Status Write(StoreWrite write) {
    return WriteNow(*store_, std::move(write));
  }

  std::shared_ptr<KvStore> kv_ = std::make_shared<MemoryKvStore>();
  std::shared_ptr<KvFaults> faults_ = std::make_shared<KvFaults>();
  MovedClock clock_;
  std::unique_ptr<SessionStore> store_;
};

TEST_F(SessionStoreFaultsTest, WritesThatWaitAreCommittedInOneGroup) {
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(Write(PutRecord(Record(1))), IsOk());
  ASSERT_THAT(Write(PutRecord(Record(2))), IsOk());
  faults_->Stall();
  std::vector<int> order;
  absl::Notification last;
  const auto write = [&](int i) {
    store_->Write(Append(1 + i % 2, i / 2, {"x"}),
                  [&, i](const absl::Status& status) {
                    EXPECT_THAT(status, IsOk());
                    order.push_back(i);
                    if (i == 9) last.Notify();
                  });
  };
  write(0);
  faults_->AwaitWaiting();
  const int64_t before = faults_->writes();
  for (int i = 1; i < 10; ++i) write(i);
  EXPECT_GT(store_->stats().waiting_bytes, 0);
  faults_->Release();
  last.WaitForNotification();
  EXPECT_EQ(faults_->writes(), before + 1);
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

TEST_F(SessionStoreFaultsTest, WhatBuildsOnAFailedWriteIsRefusedWithIt) {
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(Write(PutRecord(Record(1))), IsOk());
  ASSERT_THAT(Write(PutRecord(Record(2))), IsOk());
  faults_->Fail(Calls::kWrites, 1);
  EXPECT_THAT(Write(Append(1, 0, {"a"})), HasReason("STORE_UNAVAILABLE"));
  EXPECT_FALSE(store_->stats().writable);
  EXPECT_THAT(Write(Append(2, 0, {"x"})), IsOk());
  EXPECT_TRUE(store_->stats().writable);
  EXPECT_THAT(Write(Append(1, 1, {"b"})), HasReason("STORE_UNAVAILABLE"));
  StoreWrite again = Append(1, 0, {"A"});
  again.drop_journal_from = 0;
  EXPECT_THAT(Write(again), IsOk());
  EXPECT_THAT(Write(Append(1, 1, {"B"})), IsOk());
  EXPECT_THAT(Journal(*store_, 1), ElementsAre("A", "B"));
}

TEST_F(SessionStoreFaultsTest, AGroupThatFailsIsRefusedAsAWhole) {
  ASSERT_THAT(Open(), IsOk());
  for (int i = 1; i <= 3; ++i) {
    ASSERT_THAT(Write(PutRecord(Record(i))), IsOk());
  }
  faults_->Stall();
  store_->Write(Append(3, 0, {"first"}), [](const absl::Status& status) {
    EXPECT_THAT(status, IsOk());
  });
  faults_->AwaitWaiting();
  // The one that waits is counted too.
  faults_->Fail(Calls::kWrites, 2);
  int refused = 0;
  const auto count = [&](const absl::Status& status) {
    EXPECT_THAT(status, HasReason("STORE_UNAVAILABLE"));
    ++refused;
  };
  store_->Write(Append(1, 0, {"a"}), count);
  store_->Write(Append(2, 0, {"b"}), count);
  faults_->Release();
  EXPECT_THAT(Write(Append(3, 1, {"second"})),
              testing::AnyOf(IsOk(), HasReason("STORE_UNAVAILABLE")));
  EXPECT_EQ(refused, 2);
  EXPECT_THAT(Journal(*store_, 1), IsEmpty());
  EXPECT_THAT(Journal(*store_, 2), IsEmpty());
}

TEST_F(SessionStoreFaultsTest, ASessionThatNeverWasIsNotRememberedAsFailed) {
  ASSERT_THAT(Open(), IsOk());
  faults_->Fail(Calls::kWrites, 1);
  EXPECT_THAT(Write(PutRecord(Record(1))), HasReason("STORE_UNAVAILABLE"));
  EXPECT_THAT(Write(PutRecord(Record(2))), IsOk());
  EXPECT_THAT(Write(PutRecord(Record(1))), IsOk());
}

// One run of a small store's life, with the n-th call failing: whatever was
// acknowledged is there afterwards, and nothing else that was refused.
TEST_F(SessionStoreFaultsTest, WhateverCallFailsNothingAcknowledgedIsLost) {
  for (const Calls calls : {Calls::kWrites, Calls::kReads}) {
    for (const bool lasting : {false, true}) {
      bool failed = true;
      for (int n = 1; failed; ++n) {
        ASSERT_LT(n, 200);
        kv_ = std::make_shared<MemoryKvStore>();
        faults_ = std::make_shared<KvFaults>();
        faults_->Fail(calls, n, lasting);
        std::vector<std::string> journal;
        bool created = false;
        bool removed = false;
        std::string blob_contents;
        failed = !Open().ok();
        if (!failed) {
          const auto note = [&](const absl::Status& status) {
            if (!status.ok()) failed = true;
            return status.ok();
          };
          created = note(Write(PutRecord(Record(1))));
          for (uint64_t seq = 0; created && seq < 3; ++seq) {
            const std::string payload(1, static_cast<char>('a' + seq));
            StoreWrite append = Append(1, journal.size(), {payload});
            append.drop_journal_from = journal.size();
            if (note(Write(append))) journal.push_back(payload);
          }
          const absl::StatusOr<uint64_t> blob = MakeBlob(*store_, "state");
          if (note(blob.status()) && created) {
            StoreWrite write =
                PutRecord(RecordWithBlob(1, *blob, journal.size()));
            write.drop_journal_from = journal.size();
            if (note(Write(write))) blob_contents = "state";
          }
          if (note(Write(PutRecord(Record(2))))) {
            removed = note(Write(Remove(2)));
          }
        }
        faults_->Heal();
        ASSERT_THAT(Open(), IsOk());
        const auto sessions = Sessions(*store_);
        ASSERT_EQ(sessions.count("session-1"), created ? 1u : 0u) << n;
        if (removed) {
          EXPECT_EQ(sessions.count("session-2"), 0u);
        }
        if (!created) continue;
        EXPECT_EQ(Journal(*store_, 1), journal) << n;
        const SessionRecord& record = sessions.at("session-1").record;
        EXPECT_EQ(record.ring.size(), blob_contents.empty() ? 0u : 1u);
        if (!record.ring.empty()) {
          const auto read = ReadBlob(*store_, record.ring[0].blob);
          ASSERT_THAT(read, IsOk());
          EXPECT_EQ(*read, blob_contents);
        }
        EXPECT_THAT(store_->VerifySession(Uid(1)), IsOk());
      }
    }
  }
}

TEST_F(SessionStoreFaultsTest, ATornWriteIsTold) {
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(Write(PutRecord(Record(1))), IsOk());
  faults_->Tear(1, 1);  // the mark that it is active, without the record
  EXPECT_THAT(Write(Append(1, 0, {"a"})), HasReason("STORE_UNAVAILABLE"));
  EXPECT_THAT(Write(Append(1, 0, {"a"})), HasReason("STORE_UNAVAILABLE"));
  faults_->Heal();
  ASSERT_THAT(Open(), IsOk());
  std::vector<std::string> damaged;
  ASSERT_THAT(store_->ReadSessions(
                  [&](const FoundSession& found) {
                    EXPECT_THAT(found.damage, HasSubstr("missing"));
                    damaged.push_back(found.record.uid);
                  },
                  [](const std::string& uid, const absl::Status& error) {
                    ADD_FAILURE() << uid << error;
                  }),
              IsOk());
  EXPECT_THAT(damaged, ElementsAre(Uid(1)));
  EXPECT_THAT(store_->VerifySession(Uid(1)),
              Fails(absl::StatusCode::kDataLoss, "missing"));
}

TEST_F(SessionStoreFaultsTest, AFullStoreStillRemoves) {
  ASSERT_THAT(Open({.max_bytes = 100000}), IsOk());
  ASSERT_THAT(Write(PutRecord(Record(1))), IsOk());
  ASSERT_THAT(Write(PutRecord(Record(2))), IsOk());
  ASSERT_THAT(Write(Append(1, 0, {std::string(90000, 'x')})), IsOk());
  EXPECT_THAT(Write(Append(2, 0, {std::string(20000, 'x')})),
              HasReason("QUOTA"));
  EXPECT_THAT(MakeBlob(*store_, std::string(20000, 'x')), HasReason("QUOTA"));
  EXPECT_THAT(Write(Remove(1)), IsOk());
  StoreWrite again = Append(2, 0, {std::string(20000, 'x')});
  again.drop_journal_from = 0;
  EXPECT_THAT(Write(again), IsOk());
  EXPECT_EQ(store_->stats().limit_bytes, 100000);
}

StoreWrite Remembered(const std::string& id, size_t bytes = 10) {
  StoreWrite write;
  write.request = RememberedRequest{
      .id = id, .digest = "d", .reply = std::string(bytes, 'r')};
  return write;
}

TEST_F(SessionStoreFaultsTest, RequestsAreKeptForAsLongAsTheStoreWasOpen) {
  ASSERT_THAT(Open({.clock = &clock_}), IsOk());
  const auto ids = [&] {
    std::vector<std::string> found;
    const auto requests = store_->ReadRequests();
    EXPECT_THAT(requests, IsOk());
    for (const RememberedRequest& request : *requests) {
      found.push_back(request.id);
    }
    return found;
  };
  ASSERT_THAT(Write(Remembered("a")), IsOk());
  clock_.Move(13 * 3600);
  ASSERT_THAT(Write(Remembered("b")), IsOk());
  ASSERT_THAT(Open({.clock = &clock_}), IsOk());
  EXPECT_THAT(ids(), ElementsAre("a", "b"));
  clock_.Move(13 * 3600);
  ASSERT_THAT(Write(Remembered("c")), IsOk());
  EXPECT_THAT(ids(), ElementsAre("b", "c"));
  ASSERT_THAT(Write(Remembered("b")), IsOk());  // again: now the youngest
  EXPECT_THAT(ids(), ElementsAre("c", "b"));
}

TEST_F(SessionStoreFaultsTest, TheOldestRequestsGoWhenThereAreTooMany) {
  ASSERT_THAT(Open(), IsOk());
  for (int i = 0; i < 20; ++i) {
    ASSERT_THAT(Write(Remembered(std::to_string(i), 1 << 20)), IsOk());
  }
  const auto requests = store_->ReadRequests();
  ASSERT_THAT(requests, IsOk());
  EXPECT_EQ(requests->size(), 7u);
  EXPECT_EQ(requests->back().id, "19");
}

TEST_F(SessionStoreFaultsTest, RequestsOutliveTheirSession) {
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(Write(PutRecord(Record(1))), IsOk());
  StoreWrite remove = Remove(1);
  remove.request = RememberedRequest{.id = "gone"};
  ASSERT_THAT(Write(remove), IsOk());
  ASSERT_THAT(Open(), IsOk());
  EXPECT_EQ(store_->ReadRequests()->size(), 1u);
}

}  // namespace
}  // namespace mneme
