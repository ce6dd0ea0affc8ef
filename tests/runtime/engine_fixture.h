// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_RUNTIME_ENGINE_FIXTURE_H_
#define MNEME_TESTS_RUNTIME_ENGINE_FIXTURE_H_

#include <memory>
#include <string>

#include "engine/engine.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {

// An engine with one model of random weights, "tiny".
class EngineTest : public testing::Test {
 protected:
  void SetUp() override {
    const ModelConfig config = *PresetConfig("ttt-linear-tiny");
    ASSERT_THAT(WriteRandomModel(config, 1, model_dir_.path()), IsOk());
    StartEngine({.threads = 2});
  }

  void StartEngine(const EngineOptions& options) {
    engine_.reset();
    engine_ = *Engine::Create(options);
    ASSERT_THAT(engine_->LoadModel("tiny", model_dir_.path()), IsOk());
  }

  void Create(const std::string& id, SessionUnit unit = SessionUnit::kText) {
    ASSERT_THAT(
        engine_->CreateSession({.id = id, .model = "tiny", .unit = unit}),
        IsOk());
  }

  TempDir model_dir_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace mneme

#endif  // MNEME_TESTS_RUNTIME_ENGINE_FIXTURE_H_
