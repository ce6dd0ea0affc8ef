// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_RUNTIME_GENERATION_FIXTURE_H_
#define MNEME_TESTS_RUNTIME_GENERATION_FIXTURE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/moved_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {

// Makes the model say these bytes, more or less by chance.
inline std::map<int32_t, float> Only(const std::string& bytes) {
  std::map<int32_t, float> bias;
  for (const char c : bytes) bias[static_cast<uint8_t>(c)] = 100.0f;
  return bias;
}

class GenerationTest : public testing::Test {
 protected:
  void SetUp() override {
    const ModelConfig config = *PresetConfig("ttt-linear-tiny");
    ASSERT_THAT(WriteRandomModel(config, 1, model_dir_.path()), IsOk());
    engine_ = *Engine::Create({.threads = 2, .clock = &clock_});
    ASSERT_THAT(engine_->LoadModel("tiny", model_dir_.path()), IsOk());
  }

  void Create(const std::string& id, SessionUnit unit = SessionUnit::kText) {
    ASSERT_THAT(
        engine_->CreateSession({.id = id, .model = "tiny", .unit = unit}),
        IsOk());
  }
  // What a generation makes of a new session.
  absl::StatusOr<Generated> Fresh(GenerateOptions options) {
    const std::string id = absl::StrCat("fresh-", ++made_);
    Create(id);
    options.session = id;
    return GenerateAll(*engine_, options);
  }
  GenerateOptions Letters(const std::string& letters, int64_t tokens) {
    return {.session = "s",
            .prompt = "prompt",
            .max_tokens = tokens,
            .sampling = {.seed = 9, .logit_bias = Only(letters)}};
  }
  bool AwaitIdle(const std::string& id) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (engine_->GetSession(id)->activity != SessionActivity::kIdle) {
      if (absl::Now() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return true;
  }
  // Until the first token was seen.
  static void AwaitOutput(Generation& generation, ProgressWaiter& waiter) {
    while (true) {
      const auto event = generation.Poll();
      if (!event.has_value()) {
        ASSERT_TRUE(waiter.Wait());
      } else if (event->kind == GenerateEvent::Kind::kOutput) {
        return;
      }
    }
  }

  TempDir model_dir_;
  MovedClock clock_;
  std::unique_ptr<Engine> engine_;
  int made_ = 0;
};

}  // namespace mneme

#endif  // MNEME_TESTS_RUNTIME_GENERATION_FIXTURE_H_
