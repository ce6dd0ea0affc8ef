// SPDX-License-Identifier: Apache-2.0
//
// The power goes at random moments, and with it whatever was not synced: in the
// end every session is as if it had never gone.
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rocksdb/env.h"
#include "tests/fault/engine_rig.h"
#include "tests/fault/engine_script.h"
#include "tests/fault/power_loss_file_system.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

constexpr int kSessions = 12;
constexpr int kThreads = 3;

class PowerLossTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_THAT(rig_.MakeModels(), IsOk()); }

  static std::vector<EngineScript> Scripts(int seed) {
    std::vector<EngineScript> scripts;
    for (int i = 0; i < kSessions; ++i) {
      scripts.emplace_back(seed, i, EngineRig::ModelName(i));
    }
    return scripts;
  }

  absl::StatusOr<std::unique_ptr<EngineImpl>> Open(const std::string& directory,
                                                   rocksdb::Env* env) {
    return rig_.Start(
        OpenRocksDbStore(directory, {}, {.min_free_bytes = 0, .env = env}));
  }

  // Works on all scripts up to `steps` steps each, or until the first error of
  // each thread. Returns the errors.
  static std::vector<absl::Status> Work(EngineImpl& engine,
                                        std::vector<EngineScript>& scripts,
                                        int steps) {
    absl::Mutex mutex;
    std::vector<absl::Status> errors;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (int step = 0; step < steps; ++step) {
          for (int i = thread; i < kSessions; i += kThreads) {
            if (scripts[i].next_step() > step) continue;
            const absl::Status status = scripts[i].Do(engine);
            if (status.ok()) continue;
            const absl::MutexLock lock(&mutex);
            errors.push_back(status);
            return;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return errors;
  }

  static int MostSteps(const std::vector<EngineScript>& scripts) {
    int steps = 0;
    for (const EngineScript& script : scripts) {
      steps = std::max(steps, script.next_step());
    }
    return steps;
  }

  EngineRig rig_;
  TempDir dir_;
};

TEST_F(PowerLossTest, NothingPromisedIsLostAndNothingIsAppliedTwice) {
  const char* wanted_losses = std::getenv("MNEME_POWER_LOSSES");
  const int losses = wanted_losses == nullptr ? 12 : std::atoi(wanted_losses);
  const char* chosen_seed = std::getenv("MNEME_SEED");
  const int seed = chosen_seed == nullptr ? 1 : std::atoi(chosen_seed);
  std::mt19937 random(static_cast<unsigned>(seed));
  std::exponential_distribution<double> calls_of_a_life(1.0 / 150);
  std::vector<EngineScript> scripts = Scripts(seed);

  std::string directory = dir_.File("0");
  ASSERT_THAT(Open(directory, nullptr), IsOk());
  int early = 0;
  for (int life = 1; life <= losses; ++life) {
    SCOPED_TRACE(absl::StrCat("life ", life));
    const std::string left = dir_.File(absl::StrCat(life));
    const auto files = std::make_shared<PowerLossFileSystem>(
        directory, left,
        /*calls=*/1 + static_cast<int64_t>(calls_of_a_life(random)),
        static_cast<unsigned>(random()));
    const std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(files);
    auto engine = Open(directory, env.get());
    if (engine.ok()) {
      for (const EngineScript& script : scripts) {
        ASSERT_THAT(script.Check(**engine), IsOk());
      }
      for (const absl::Status& error : Work(**engine, scripts, 1 << 20)) {
        EXPECT_TRUE(files->lost());
        EXPECT_THAT(error, HasReason("STORE_UNAVAILABLE"));
      }
      engine->reset();
    } else {
      ASSERT_TRUE(files->lost()) << std::string(engine.status().ToString());
      ++early;
    }
    ASSERT_TRUE(files->lost());
    std::filesystem::remove_all(directory);
    std::filesystem::remove_all(directory + ".aside");
    directory = left;
    ASSERT_FALSE(HasFailure());
  }

  auto engine = Open(directory, nullptr);
  ASSERT_THAT(engine, IsOk());
  for (const EngineScript& script : scripts) {
    ASSERT_THAT(script.Check(**engine), IsOk());
  }
  const int steps = MostSteps(scripts) + 2;
  ASSERT_THAT(Work(**engine, scripts, steps), testing::IsEmpty());
  const auto found = Findings(**engine);
  ASSERT_THAT(found, IsOk());
  engine->reset();

  auto never_lost =
      rig_.Start(MakeMemoryStore({}), {.session_memory_bytes = 1 << 30});
  ASSERT_THAT(never_lost, IsOk());
  std::vector<EngineScript> scripts_again = Scripts(seed);
  ASSERT_THAT(Work(**never_lost, scripts_again, steps), testing::IsEmpty());
  const auto wanted = Findings(**never_lost);
  ASSERT_THAT(wanted, IsOk());
  EXPECT_EQ(*found, *wanted);
  std::printf(
      "%d losses, %d of them while it opened, %d steps of each of %d "
      "sessions, %d sessions in the end\n",
      losses, early, steps, kSessions, static_cast<int>(found->size()));
}

}  // namespace
}  // namespace mneme
