// SPDX-License-Identifier: Apache-2.0
//
// What sessions may take, of memory and of the store, and what is given back.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/fault/counted_heap.h"
#include "tests/fault/stored_engine_fixture.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Space = KvStore::Space;

class SessionBoundsTest : public StoredEngineTest {
 protected:
  // Whether the heap is at most `bytes` soon.
  static bool HeapFallsTo(int64_t bytes) {
    return Eventually([bytes] { return LiveHeapBytes() <= bytes; });
  }
};

// -- Memory ------------------------------------------------------------------

TEST_F(SessionBoundsTest, DeletedSessionsTakeNoMemory) {
  Start();
  const auto come_and_go = [this](int sessions) {
    for (int i = 0; i < sessions; ++i) {
      ASSERT_THAT(Make("s"), IsOk());
      ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
    }
    AwaitStored();
  };
  come_and_go(300);
  const int64_t before = LiveHeapBytes();
  come_and_go(500);
  // What some of the last still have when they are counted is nothing beside
  // 500 of them.
  EXPECT_TRUE(HeapFallsTo(before + 100 * 1000))
      << LiveHeapBytes() - before << " bytes more";
}

TEST_F(SessionBoundsTest, UpdatesOfATimeToLiveTakeNoMemory) {
  Start();
  const auto update = [this](int times) {
    for (int i = 0; i < times; ++i) {
      ASSERT_THAT(
          engine_->UpdateSession({.session = "s", .ttl = absl::Hours(24)}),
          IsOk());
    }
    AwaitStored();
  };
  Create("s");
  update(300);
  const int64_t before = LiveHeapBytes();
  update(3000);
  EXPECT_TRUE(HeapFallsTo(before + 30 * 1000))
      << LiveHeapBytes() - before << " bytes more";
}

TEST_F(SessionBoundsTest, NamedSnapshotsAreCountedOrRefused) {
  Start();
  Create("s", "hello");
  const int64_t before = engine_->stats().index_bytes;
  int64_t kept = 0;
  absl::Status status;
  while (kept < 1100 && status.ok()) {
    status = KeepSnapshot(*engine_,
                          {.session = "s", .name = absl::StrCat("p", kept)})
                 .status();
    if (status.ok()) ++kept;
  }
  if (!status.ok()) {
    EXPECT_THAT(status, Fails(StatusCode::kResourceExhausted, ""));
    return;
  }
  const int64_t counted = engine_->stats().index_bytes - before;
  EXPECT_GE(counted, kept * static_cast<int64_t>(sizeof(StoredSnapshot)) / 2);
}

TEST_F(SessionBoundsTest, AnImportPutsIdleSessionsOut) {
  EngineOptions options = Options();
  options.session_memory_bytes = 24 << 20;
  Start(options);
  const auto hot = [this] {
    return engine_->stats().models.at(0).hot_sessions;
  };
  int64_t made = 0;
  while (made < 200 && hot() == made) {
    Create(absl::StrCat("s", made++), "x");
  }
  // The memory is full when the next one does not come into it, or only when
  // another goes.
  ASSERT_LT(hot(), made);
  for (int i = 0; i < 3; ++i) Create(absl::StrCat("t", i), "x");
  EXPECT_THAT(engine_->ImportSession({.id = "i"}).status(), IsOk());
}

TEST_F(SessionBoundsTest, WhatIsReplayedIsCountedWhileItIsRead) {
  constexpr int kPieces = 8;
  constexpr int64_t kPieceBytes = 32 << 10;
  Start();
  Create("s");
  for (int i = 0; i < kPieces; ++i) {
    ASSERT_THAT(Append("s", std::string(kPieceBytes, 'x')), IsOk());
  }
  const std::string stand = Stand("s");
  const int64_t hot = engine_->stats().session_memory_used_bytes;
  Crash();
  EngineOptions options = Options();
  options.session_memory_bytes = hot + kPieces * kPieceBytes / 2;
  Start(options);
  EXPECT_THAT(AwaitDescription("s"), HasReason("RAM_BUDGET"));
  ASSERT_THAT(engine_->SetSessionMemory(hot + 2 * kPieces * kPieceBytes),
              IsOk());
  EXPECT_EQ(Stand("s"), stand);
  EXPECT_TRUE(Eventually([&] {
    return engine_->stats().session_memory_used_bytes <= hot;
  })) << "the journal's memory is kept";
}

// -- A session's part of the store -------------------------------------------

class SessionQuotaTest : public SessionBoundsTest {
 protected:
  static constexpr int64_t kPiece = 4096;
  static constexpr int kMostPieces = 60;

  void StartWithQuota() {
    Start();
    Create("fresh", "x");
    const absl::StatusOr<SnapshotInfo> snapshot =
        KeepSnapshot(*engine_, {.session = "fresh", .name = "p"});
    ASSERT_THAT(snapshot, IsOk());
    ASSERT_THAT(engine_->DeleteSession("fresh", ""), IsOk());
    // Room for a snapshot or two, and for twenty pieces or so.
    options_ = Options();
    options_.session_store_bytes = 2 * snapshot->stored_bytes + 20 * kPiece;
    Start(options_);
    Create("s");
  }
  // Appends pieces until one is refused. Returns the refusal, or OK.
  absl::Status Fill() {
    for (int i = 0; i < kMostPieces; ++i) {
      const absl::Status status = Append("s", std::string(kPiece, 'x'));
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }
  static bool IsQuota(const absl::Status& status) {
    const absl::optional<ErrorReason> reason = GetReason(status);
    return absl::IsResourceExhausted(status) && reason.has_value() &&
           reason->reason == "QUOTA";
  }
  void ExpectFull(const absl::Status& status) {
    ASSERT_TRUE(IsQuota(status)) << status;
    AwaitStored();
    // Values are sealed, and some of the journal is not text.
    EXPECT_LE(Bytes(Space::kJournal) + Bytes(Space::kBlobs),
              options_.session_store_bytes * 11 / 10);
  }

  EngineOptions options_;
};

TEST_F(SessionQuotaTest, RefusesAppends) {
  StartWithQuota();
  const absl::Status refused = Fill();
  ExpectFull(refused);
  // Nothing of what was refused is there, and what was not is.
  const int64_t stored = engine_->GetSession("s")->next_offset;
  EXPECT_GT(stored, 0);
  EXPECT_EQ(stored % kPiece, 0);
  const std::string stand = Stand("s");
  EXPECT_TRUE(IsQuota(Append("s", std::string(kPiece, 'x'))));
  EXPECT_EQ(Stand("s"), stand);
  Crash();
  Start(options_);
  EXPECT_EQ(Stand("s"), stand);
}

TEST_F(SessionQuotaTest, HasRoomAgainAfterARollback) {
  StartWithQuota();
  ASSERT_THAT(Append("s", std::string(kPiece, 'x')), IsOk());
  ExpectFull(Fill());
  ASSERT_THAT(Rollback(*engine_, {.session = "s", .offset = kPiece}), IsOk());
  EXPECT_THAT(Append("s", std::string(kPiece, 'y')), IsOk());
  ExpectFull(Fill());
}

TEST_F(SessionQuotaTest, HasRoomAgainAfterAReset) {
  StartWithQuota();
  ExpectFull(Fill());
  ASSERT_THAT(Reset(*engine_, {.session = "s"}), IsOk());
  EXPECT_THAT(Append("s", std::string(kPiece, 'y')), IsOk());
  ExpectFull(Fill());
}

TEST_F(SessionQuotaTest, CountsSnapshotsToo) {
  StartWithQuota();
  int kept = 0;
  absl::Status refused;
  while (kept < kMostPieces && refused.ok()) {
    ASSERT_THAT(Append("s", "x"), IsOk());  // a state of its own
    refused = KeepSnapshot(*engine_,
                           {.session = "s", .name = absl::StrCat("p", kept)})
                  .status();
    if (refused.ok()) ++kept;
  }
  ExpectFull(refused);
  EXPECT_GT(kept, 0);
  ASSERT_THAT(Reset(*engine_, {.session = "s"}), IsOk());
  // Named ones stay, and go on to count.
  EXPECT_EQ(engine_->ListSnapshots("s")->size(), kept);
}

}  // namespace
}  // namespace mneme
