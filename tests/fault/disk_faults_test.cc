// SPDX-License-Identifier: Apache-2.0
//
// A disk that is full, or that fails, below RocksDB: the engine refuses what it
// cannot store, loses nothing, and goes on by itself once the disk is well.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rocksdb/env.h"
#include "tests/fault/engine_rig.h"
#include "tests/fault/engine_script.h"
#include "tests/support/engine_driver.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using Fault = FaultFileSystem::Fault;

constexpr int kSeed = 7;
constexpr int kSteps = 25;
constexpr uint64_t kFull = 1 << 20;

class DiskFaultsTest : public ::testing::TestWithParam<Fault> {
 protected:
  void SetUp() override {
    ASSERT_THAT(rig_.MakeModels(), IsOk());
    auto well = rig_.Start(MakeMemoryStore({}));
    ASSERT_THAT(well, IsOk());
    EngineScript script(kSeed, 0, EngineRig::ModelName(0));
    while (script.next_step() < kSteps) {
      ASSERT_THAT(script.Do(**well), IsOk());
    }
    const auto found = Findings(**well);
    ASSERT_THAT(found, IsOk());
    wanted_ = *found;
    ASSERT_THAT(Open(), IsOk());
  }
  void TearDown() override { engine_.reset(); }

  absl::Status Open() {
    engine_.reset();
    auto engine = rig_.Start(
        OpenRocksDbStore(dir_.File("store"), {},
                         {.min_free_bytes = 2 << 20, .env = env_.get()}));
    if (!engine.ok()) return engine.status();
    engine_ = *std::move(engine);
    return absl::OkStatus();
  }

  EngineRig rig_;
  TempDir dir_;
  std::shared_ptr<FaultFileSystem> files_ = std::make_shared<FaultFileSystem>();
  std::unique_ptr<rocksdb::Env> env_ = rocksdb::NewCompositeEnv(files_);
  std::unique_ptr<EngineImpl> engine_;
  std::map<std::string, std::string> wanted_;
};

TEST_P(DiskFaultsTest, NothingPromisedIsLostAndWorkGoesOn) {
  EngineScript script(kSeed, 0, EngineRig::ModelName(0));
  int refused = 0;
  for (int fault = 1; script.next_step() < kSteps; ++fault) {
    files_->Fail(GetParam(), 1 + fault % 5);
    absl::Status status;
    while (status.ok() && script.next_step() < kSteps) {
      status = script.Do(*engine_);
    }
    if (!status.ok()) {
      ASSERT_THAT(status, HasReason("STORE_UNAVAILABLE"));
      ++refused;
      // As long as it lasts it lasts; reads are answered, or UNAVAILABLE.
      ASSERT_THAT(script.Check(*engine_), IsOk());
      const absl::Status again = script.Do(*engine_);
      if (!again.ok()) {
        ASSERT_THAT(again, HasReason("STORE_UNAVAILABLE"));
      }
    }
    files_->Heal();
    ASSERT_THAT(script.Check(*engine_), IsOk());
    // By itself, but maybe not at once: a reader does not wait for who opens
    // the store again.
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    for (const int step = script.next_step();
         step < kSteps && script.next_step() == step;) {
      const absl::Status again = script.Do(*engine_);
      if (again.ok()) break;
      ASSERT_THAT(again, HasReason("STORE_UNAVAILABLE"));
      ASSERT_LT(absl::Now(), deadline);
    }
  }
  EXPECT_GT(refused, 3);
  ASSERT_THAT(Findings(*engine_), IsOk());
  EXPECT_EQ(*Findings(*engine_), wanted_);
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(script.Check(*engine_), IsOk());
  EXPECT_EQ(*Findings(*engine_), wanted_);
}

INSTANTIATE_TEST_SUITE_P(EveryFault, DiskFaultsTest,
                         testing::Values(Fault::kFull, Fault::kAppendFails,
                                         Fault::kSyncFails),
                         [](const auto& fault) -> std::string {
                           switch (fault.param) {
                             case Fault::kFull:
                               return "Full";
                             case Fault::kAppendFails:
                               return "AppendFails";
                             case Fault::kSyncFails:
                               return "SyncFails";
                           }
                           return "";
                         });

class FullDiskTest : public DiskFaultsTest {};

TEST_P(FullDiskTest, AppendsWaitForSpaceAndDeletesDoNot) {
  ASSERT_THAT(engine_->CreateSession({.id = "s", .model = "ttt"}), IsOk());
  ASSERT_THAT(engine_->CreateSession({.id = "d", .model = "ttt"}), IsOk());
  files_->SetFreeBytes(kFull);
  ProgressWaiter waiter;
  int64_t kept = 0;
  {
    const auto stream = engine_->OpenAppend({.session = "s"}, &waiter);
    ASSERT_THAT(stream, IsOk());
    // The first one may still go through: it drops what a failed write left.
    for (; (*stream)->status().ok(); ++kept) {
      const auto taken =
          (*stream)->Write({.offset = kept, .payload = std::string("a")});
      if (!taken.ok()) break;
      while ((*stream)->status().ok() &&
             (*stream)->progress().durable_offset <= kept) {
        ASSERT_TRUE(waiter.Wait());
      }
      if ((*stream)->progress().durable_offset <= kept) break;
    }
    EXPECT_THAT((*stream)->status(), HasReason("STORE_UNAVAILABLE"));
  }
  EXPECT_LE(kept, 1);
  EXPECT_FALSE(engine_->stats().store_writable);
  EXPECT_THAT(engine_->CreateSession({.id = "n", .model = "ttt"}),
              HasReason("STORE_UNAVAILABLE"));
  EXPECT_THAT(engine_->GetSession("n"),
              Fails(absl::StatusCode::kNotFound, "n"));
  EXPECT_THAT(engine_->DeleteSession("d", ""), IsOk());
  EXPECT_EQ(engine_->GetSession("s")->next_offset, kept);

  files_->SetFreeBytes(UINT64_MAX);
  ASSERT_THAT(AppendAll(*engine_, "s", std::string("a")), IsOk());
  EXPECT_THAT(engine_->CreateSession({.id = "n", .model = "ttt"}), IsOk());
  EXPECT_TRUE(engine_->stats().store_writable);
  ASSERT_THAT(Open(), IsOk());
  EXPECT_EQ(engine_->GetSession("s")->durable_offset, kept + 1);
  EXPECT_THAT(engine_->GetSession("d"),
              Fails(absl::StatusCode::kNotFound, "d"));
}

INSTANTIATE_TEST_SUITE_P(NoSpace, FullDiskTest, testing::Values(Fault::kFull));

}  // namespace
}  // namespace mneme
