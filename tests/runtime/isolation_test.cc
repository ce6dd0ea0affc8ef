// SPDX-License-Identifier: Apache-2.0
//
// Promises 3 and 5 where memory is short: many sessions are touched in random
// order, beside one another, with room for few of them. They leave memory and
// come back, are forked, and compute in whatever batches that makes; and yet
// each answers as if it were alone.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "engine/engine.h"
#include "engine/tools/presets.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

constexpr char kModel[] = "m";
constexpr int kTouching = 6;  // threads that touch sessions

// One thing that is done with a session.
struct Step {
  std::string input;          // appended first
  std::vector<int64_t> cuts;  // sizes of the messages that it comes in
  int64_t ask_tokens = 0;     // generated then; 0: none
  uint64_t seed = 0;
  bool forks = false;  // then; what follows is done with the fork
};

using Script = std::vector<Step>;

// What a session comes to, and what it said on its way.
struct Outcome {
  std::string state_digest;
  std::string history_digest;
  int64_t position = 0;
  std::string said;

  bool operator==(const Outcome&) const = default;
};

std::string IdOf(int session) { return absl::StrCat("s", session); }
std::string ForkOf(const std::string& id) { return id + "-fork"; }

Script RandomScript(std::mt19937& random, int steps, int most_bytes) {
  Script script(steps);
  bool forked = false;
  for (Step& step : script) {
    step.input.resize(std::uniform_int_distribution<>(1, most_bytes)(random));
    for (char& byte : step.input) byte = static_cast<char>(random());
    step.cuts = {std::uniform_int_distribution<>(1, most_bytes)(random)};
    if (random() % 2 == 0) {
      step.ask_tokens = std::uniform_int_distribution<>(1, 3)(random);
      step.seed = random();
    }
    step.forks = !forked && random() % 4 == 0;
    forked |= step.forks;
  }
  return script;
}

class CountingObserver final : public Observer {
 public:
  void OnSessionLoaded(std::string_view, const LoadReport& report) override {
    if (report.tier != StateTier::kHot) ++loaded;
  }
  void OnSessionEvicted(std::string_view, absl::Duration) override {
    ++evicted;
  }
  void OnPass(std::string_view, PassKind, int64_t, int64_t sessions,
              absl::Duration) override {
    if (sessions > 1) ++shared_passes;
  }
  std::atomic<int64_t> loaded = 0;
  std::atomic<int64_t> evicted = 0;
  std::atomic<int64_t> shared_passes = 0;
};

class IsolationTest : public testing::Test {
 protected:
  // `room`: sessions that fit into memory, of `sessions` and their forks.
  void Start(const ModelConfig& config, int sessions, int room) {
    ASSERT_THAT(WriteRandomModel(config, 7, model_dir_.path()), IsOk());
    alone_ = *Engine::Create({.threads = 1});
    ASSERT_THAT(alone_->LoadModel(kModel, model_dir_.path()), IsOk());
    const ModelInfo model = *alone_->GetModel(kModel);
    constexpr int64_t kEntryBytes = 6 << 10;  // more than one takes
    memory_bytes_ = 2 * sessions * kEntryBytes +
                    room * (model.state_bytes + model.index_bytes) +
                    kTouching * model.stream_bytes;
    Restart();
  }

  void Restart() {
    crowded_.reset();
    crowded_ = *Engine::Create({.threads = 2,
                                .session_memory_bytes = memory_bytes_,
                                .data_directory = data_dir_.path(),
                                .observer = &observer_});
    ASSERT_THAT(crowded_->LoadModel(kModel, model_dir_.path()), IsOk());
  }

  void TearDown() override { crowded_.reset(); }  // before its directory

  static void Take(Engine& engine, const std::string& id, const Step& step,
                   std::string& said) {
    ASSERT_THAT(AppendAll(engine, id, step.input, step.cuts), IsOk());
    if (step.ask_tokens == 0) return;
    GenerateOptions options{.session = id,
                            .max_tokens = step.ask_tokens,
                            .sampling = {.temperature = 0.9f},
                            .ignore_eos = true};
    options.sampling.seed = step.seed;
    const absl::StatusOr<Generated> generated = GenerateAll(engine, options);
    ASSERT_THAT(generated, IsOk());
    said += generated->text;
  }

  static void Look(Engine& engine, const std::string& id, Outcome& outcome) {
    const absl::StatusOr<SessionInfo> info = Describe(engine, id);
    ASSERT_THAT(info, IsOk());
    outcome.state_digest = info->state_digest;
    outcome.history_digest = info->history_digest;
    outcome.position = info->position;
  }

  // A session of its own, without a fork, that takes steps in one piece.
  Outcome Alone(const Script& steps) {
    Outcome outcome;
    EXPECT_THAT(alone_->CreateSession({.id = "alone", .model = kModel}),
                IsOk());
    for (Step step : steps) {
      step.cuts.clear();
      Take(*alone_, "alone", step, outcome.said);
    }
    Look(*alone_, "alone", outcome);
    EXPECT_THAT(alone_->DeleteSession("alone", ""), IsOk());
    return outcome;
  }

  absl::Status Fork(const std::string& source, const std::string& id) {
    absl::Notification ended;
    absl::Status outcome;
    crowded_->ForkSession({.source = source, .id = id},
                          [&](const absl::StatusOr<SessionInfo>& info) {
                            outcome = info.status();
                            ended.Notify();
                          });
    ended.WaitForNotification();
    return outcome;
  }

  // Touches the sessions of `scripts`, those of one thread in random order;
  // puts what they said into `said`, by id.
  void TouchAll(const std::vector<Script>& scripts, unsigned seed,
                std::map<std::string, std::string>& said) {
    std::vector<std::map<std::string, std::string>> heard(kTouching);
    std::vector<std::thread> threads;
    threads.reserve(kTouching);
    for (int t = 0; t < kTouching; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(seed + t);
        std::vector<int> order;
        for (size_t i = t; i < scripts.size(); i += kTouching) {
          order.insert(order.end(), scripts[i].size(), static_cast<int>(i));
        }
        std::shuffle(order.begin(), order.end(), random);
        std::map<int, size_t> next;
        std::map<int, std::string> ids;
        for (const int session : order) {
          if (next[session] == 0) {
            ids[session] = IdOf(session);
            ASSERT_THAT(
                crowded_->CreateSession({.id = ids[session], .model = kModel}),
                IsOk());
          }
          const std::string id = ids[session];
          const Step& step = scripts[session][next[session]++];
          Take(*crowded_, id, step, heard[t][id]);
          if (HasFatalFailure()) return;
          if (!step.forks) continue;
          ids[session] = ForkOf(id);
          ASSERT_THAT(Fork(id, ids[session]), IsOk());
          heard[t][ids[session]] = heard[t][id];
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (auto& part : heard) said.merge(part);
  }

  // The steps of each session that `script` makes, by id.
  static std::map<std::string, Script> Lives(int session,
                                             const Script& script) {
    std::map<std::string, Script> lives;
    std::string id = IdOf(session);
    for (size_t i = 0; i < script.size(); ++i) {
      lives[id].push_back(script[i]);
      if (!script[i].forks) continue;
      lives[ForkOf(id)] = lives[id];
      id = ForkOf(id);
    }
    return lives;
  }

  void Check(int sessions, int steps, int most_bytes, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<Script> scripts;
    scripts.reserve(sessions);
    for (int i = 0; i < sessions; ++i) {
      scripts.push_back(RandomScript(random, steps, most_bytes));
    }
    std::map<std::string, std::string> said;
    TouchAll(scripts, seed, said);
    ASSERT_FALSE(HasFailure());
    // Most had to come back for each touch, and not all computed alone.
    EXPECT_GT(observer_.evicted, sessions);
    EXPECT_GT(observer_.loaded, sessions);
    EXPECT_GT(observer_.shared_passes, 0);
    RecordProperty("evicted", std::to_string(observer_.evicted));
    RecordProperty("loaded", std::to_string(observer_.loaded));
    RecordProperty("shared_passes", std::to_string(observer_.shared_passes));

    std::map<std::string, Outcome> wanted;
    for (int i = 0; i < sessions; ++i) {
      for (const auto& [id, life] : Lives(i, scripts[i])) {
        wanted[id] = Alone(life);
        Outcome found{.said = said[id]};
        Look(*crowded_, id, found);
        EXPECT_EQ(found.state_digest, wanted[id].state_digest) << id;
        EXPECT_TRUE(found == wanted[id]) << id;
        if (HasFailure()) return;
      }
    }
    EXPECT_EQ(said.size(), wanted.size());

    // And what they left behind is what the next engine finds.
    Restart();
    int64_t looked_at = 0;
    for (const auto& [id, outcome] : wanted) {
      if (++looked_at % 10 != 0) continue;
      Outcome found{.said = outcome.said};
      Look(*crowded_, id, found);
      EXPECT_TRUE(found == outcome) << id;
    }
  }

  TempDir model_dir_;
  TempDir data_dir_;
  CountingObserver observer_;
  int64_t memory_bytes_ = 0;
  std::unique_ptr<Engine> alone_;
  std::unique_ptr<Engine> crowded_;
};

ModelConfig SmallConfig() {
  ModelConfig config;
  config.vocab_size = 264;
  config.model_dim = 32;
  config.ffn_dim = 48;
  config.layers = 2;
  config.heads = 2;
  config.tokenizer = "bytes";
  config.bos_token = 256;
  config.eos_tokens = {259};
  return config;
}

// MNEME_ISOLATION_SESSIONS sets how many; a twentieth of them fits, and never
// more than 100.
TEST_F(IsolationTest, SessionsInRandomOrderAnswerAsIfAlone) {
  int sessions = 500;
  if (const char* wanted = std::getenv("MNEME_ISOLATION_SESSIONS")) {
    ASSERT_TRUE(absl::SimpleAtoi(wanted, &sessions));
  }
  Start(SmallConfig(), sessions, std::min(100, sessions / 20));
  Check(sessions, /*steps=*/3, /*most_bytes=*/12, 1);
}

class MixerIsolationTest : public IsolationTest,
                           public testing::WithParamInterface<const char*> {};

// Histories are longer here: blocks, segments and windows fill and go on.
TEST_P(MixerIsolationTest, SessionsInRandomOrderAnswerAsIfAlone) {
  constexpr int kSessions = 60;
  Start(*PresetConfig(GetParam()), kSessions, /*room=*/8);
  Check(kSessions, /*steps=*/4, /*most_bytes=*/150, 2);
}

INSTANTIATE_TEST_SUITE_P(
    EveryMixer, MixerIsolationTest,
    testing::Values("ttt-linear-tiny", "ttt-mlp-tiny", "infini-tiny",
                    "transformer-xl-tiny", "window-tiny", "delta-tiny",
                    "hybrid-tiny"),
    [](const auto& preset) {
      std::string name = preset.param;
      name.erase(std::remove(name.begin(), name.end(), '-'), name.end());
      return name;
    });

}  // namespace
}  // namespace mneme
