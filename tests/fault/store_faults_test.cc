// SPDX-License-Identifier: Apache-2.0
//
// The store below an engine fails, stalls, or is cut off at any of its calls:
// every call of the engine ends, nothing promised is lost, and what failed can
// be done again, with the end that a run without faults has.
#include <atomic>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/store/kv_session_store.h"
#include "engine/store/memory/memory_kv_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fault/engine_rig.h"
#include "tests/fault/engine_script.h"
#include "tests/support/engine_driver.h"
#include "tests/support/fault_kv_store.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using Calls = KvFaults::Calls;

constexpr int kSeed = 4;
constexpr int kSteps = 20;
constexpr int kSessions = 2;

class StoreFaultsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(rig_.MakeModels(), IsOk());
    Begin();
    ASSERT_THAT(Open(), IsOk());
    for (int i = 0; i < kSessions * kSteps; ++i) {
      ASSERT_THAT(Next().Do(*engine_), IsOk());
    }
    const auto found = Findings(*engine_);
    ASSERT_THAT(found, IsOk());
    wanted_ = *found;
    engine_.reset();
    calls_ = faults_->calls();
    writes_ = faults_->writes();
  }

  void Begin() {
    engine_.reset();
    kv_ = std::make_shared<MemoryKvStore>();
    faults_ = std::make_shared<KvFaults>();
    scripts_.clear();
    for (int i = 0; i < kSessions; ++i) {
      scripts_.emplace_back(kSeed, i, EngineRig::ModelName(i));
    }
  }
  absl::Status Open() {
    engine_.reset();
    auto engine = rig_.Start(
        KvSessionStore::Open(std::make_unique<FaultKvStore>(kv_, faults_), {}));
    if (!engine.ok()) return engine.status();
    engine_ = *std::move(engine);
    return absl::OkStatus();
  }

  // That which is furthest behind.
  EngineScript& Next() {
    EngineScript* next = &scripts_[0];
    for (EngineScript& script : scripts_) {
      if (script.next_step() < next->next_step()) next = &script;
    }
    return *next;
  }
  bool AllDone() { return Next().next_step() == kSteps; }

  // Works until all is done. After each error `mend` is called, which may open
  // the engine anew.
  void Work(const std::function<void()>& mend) {
    for (int failures = 0; !AllDone();) {
      const absl::Status status =
          engine_ == nullptr ? Open() : Next().Do(*engine_);
      if (status.ok()) continue;
      ASSERT_THAT(status, HasReason("STORE_UNAVAILABLE"));
      ASSERT_LT(++failures, 20)
          << Next().id() << " step " << Next().next_step() << ": " << status;
      mend();
      // What failed may still be loading, and refuse writes until it has.
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  void CheckAll() {
    for (const EngineScript& script : scripts_) {
      ASSERT_THAT(script.Check(*engine_), IsOk());
    }
  }
  // Everything is as it should be, also for who opens the store next.
  void ExpectWanted() {
    ASSERT_NO_FATAL_FAILURE(CheckAll());
    EXPECT_THAT(Findings(*engine_), IsOk());
    EXPECT_EQ(*Findings(*engine_), wanted_);
    ASSERT_THAT(Open(), IsOk());
    ASSERT_NO_FATAL_FAILURE(CheckAll());
    EXPECT_THAT(Findings(*engine_), IsOk());
    EXPECT_EQ(*Findings(*engine_), wanted_);
  }

  // Calls `test` with 1 to `calls`: with all of them if the environment says
  // so, else with some.
  static void ForEachOf(int64_t calls, int64_t some,
                        const std::function<void(int)>& test) {
    const bool all = std::getenv("MNEME_EVERY_CALL") != nullptr;
    const int64_t stride = all ? 1 : std::max<int64_t>(1, calls / some);
    for (int64_t n = 1; n <= calls; n += stride) {
      SCOPED_TRACE(absl::StrCat("call ", n, " of ", calls));
      test(static_cast<int>(n));
      if (HasFailure()) return;
    }
  }

  EngineRig rig_;
  std::shared_ptr<KvStore> kv_;
  std::shared_ptr<KvFaults> faults_;
  std::vector<EngineScript> scripts_;
  std::unique_ptr<EngineImpl> engine_;
  std::map<std::string, std::string> wanted_;
  int64_t calls_ = 0;
  int64_t writes_ = 0;
};

TEST_F(StoreFaultsTest, ASessionThatLostAWriteCanBeTakenBack) {
  Begin();
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(engine_->CreateSession({.id = "s", .model = "ttt"}), IsOk());
  ASSERT_THAT(AppendAll(*engine_, "s", std::string("kept")), IsOk());
  ASSERT_THAT(Outcome<SnapshotInfo>([&](const auto& done) {
                engine_->CreateSnapshot({.session = "s", .name = "k"}, done);
              }),
              IsOk());  // by then it is stored
  for (const bool reset : {false, true}) {
    faults_->Fail(Calls::kWrites, 1);
    EXPECT_THAT(engine_->UpdateSession(
                    {.session = "s",
                     .labels = std::map<std::string, std::string>{{"k", "v"}}}),
                HasReason("STORE_UNAVAILABLE"));
    EXPECT_THAT(Outcome<SessionInfo>([&](const auto& done) {
                  if (reset) {
                    engine_->ResetSession({.session = "s"}, done);
                  } else {
                    engine_->RollbackSession({.session = "s", .offset = 2},
                                             done);
                  }
                }),
                IsOk());
    EXPECT_EQ(engine_->GetSession("s")->next_offset, reset ? 0 : 2);
  }
}

TEST_F(StoreFaultsTest, OneCallFails) {
  ForEachOf(calls_, 25, [&](int n) {
    Begin();
    faults_->Fail(Calls::kAll, n);
    ASSERT_NO_FATAL_FAILURE(Work([] {}));
    faults_->Heal();
    ExpectWanted();
  });
}

TEST_F(StoreFaultsTest, AllCallsFailUntilTheStoreIsWellAgain) {
  ForEachOf(calls_, 25, [&](int n) {
    Begin();
    faults_->Fail(Calls::kAll, n, /*lasting=*/true);
    int failures = 0;
    ASSERT_NO_FATAL_FAILURE(Work([&] {
      if (++failures == 3) faults_->Heal();
    }));
    faults_->Heal();
    ExpectWanted();
  });
}

TEST_F(StoreFaultsTest, AWriteIsMadeButNotAnswered) {
  ForEachOf(writes_, 20, [&](int n) {
    Begin();
    faults_->Tear(n, SIZE_MAX);
    ASSERT_NO_FATAL_FAILURE(Work([&] {
      engine_.reset();
      faults_->Heal();
    }));
    faults_->Heal();
    ExpectWanted();
  });
}

TEST_F(StoreFaultsTest, AWriteIsCutOff) {
  ForEachOf(writes_, 20, [&](int n) {
    Begin();
    faults_->Tear(n, 0);
    ASSERT_NO_FATAL_FAILURE(Work([&] {
      engine_.reset();
      faults_->Heal();
      if (Open().ok()) CheckAll();
    }));
    faults_->Heal();
    ExpectWanted();
  });
}

TEST_F(StoreFaultsTest, AWriteStalls) {
  ForEachOf(writes_, 15, [&](int n) {
    Begin();
    faults_->Stall(n);
    std::atomic<bool> ended = false;
    std::thread worker([&] {
      while (!AllDone() && !HasFailure()) {
        EXPECT_THAT(engine_ == nullptr ? Open() : Next().Do(*engine_), IsOk());
      }
      ended = true;
    });
    if (faults_->AwaitWaitingOr([&] { return ended.load(); })) {
      // Others are not held up.
      if (engine_ != nullptr) engine_->ListSessions("", 100, {});
      faults_->Release();
    }
    worker.join();
    faults_->Release();
    ExpectWanted();
  });
}

}  // namespace
}  // namespace mneme
