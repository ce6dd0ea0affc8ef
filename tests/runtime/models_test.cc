// SPDX-License-Identifier: Apache-2.0
//
// Models that come and go while others are served.
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/errors.h"
#include "engine/engine.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using absl::StatusCode;

class ModelsTest : public testing::Test {
 protected:
  ModelsTest() {
    Write(first_, 1);
    Write(second_, 2);
    EXPECT_THAT(engine_->LoadModel("m", first_.path()), IsOk());
  }

  static void Write(const TempDir& dir, uint64_t seed) {
    EXPECT_THAT(
        WriteRandomModel(*PresetConfig("ttt-linear-tiny"), seed, dir.path()),
        IsOk());
  }
  absl::Status Create(const std::string& id, const std::string& model) {
    return engine_->CreateSession({.id = id, .model = model}).status();
  }
  std::string Fingerprint(const std::string& model) {
    const absl::StatusOr<ModelInfo> info = engine_->GetModel(model);
    return info.ok() ? info->fingerprint : "";
  }

  const TempDir first_, second_;
  const std::unique_ptr<Engine> engine_ = *Engine::Create({.threads = 2});
};

TEST_F(ModelsTest, AModelGoesWhenItsSessionsHaveGone) {
  ASSERT_THAT(Create("s", "m"), IsOk());
  const absl::Status refused = engine_->UnloadModel("m", false);
  EXPECT_THAT(refused, Fails(StatusCode::kFailedPrecondition, "1 sessions"));
  EXPECT_THAT(refused, HasReason("MODEL_IN_USE"));
  EXPECT_THAT(AppendAll(*engine_, "s", "still here"), IsOk());

  ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
  EXPECT_THAT(engine_->UnloadModel("m", false), IsOk());
  EXPECT_TRUE(engine_->ListModels().empty());
  EXPECT_TRUE(engine_->stats().models.empty());
  EXPECT_THAT(Create("s", "m"), Fails(StatusCode::kNotFound, "m"));
  EXPECT_THAT(engine_->UnloadModel("m", false),
              Fails(StatusCode::kNotFound, "m"));
}

TEST_F(ModelsTest, ForceDeletesTheSessionsAndEndsWhatTheyDo) {
  ASSERT_THAT(Create("s", "m"), IsOk());
  ProgressWaiter waiter;
  const auto stream = *engine_->OpenAppend({.session = "s"}, &waiter);
  ASSERT_THAT(engine_->UnloadModel("m", true), IsOk());
  EXPECT_THAT(engine_->GetSession("s"), Fails(StatusCode::kNotFound, "s"));
  EXPECT_THAT(stream->Write({.offset = 0, .payload = "x"}),
              Fails(StatusCode::kNotFound, "s"));
}

TEST_F(ModelsTest, ANameWithOtherWeightsKnowsNoOldSession) {
  const std::string before = Fingerprint("m");
  ASSERT_THAT(Create("s", "m"), IsOk());
  EXPECT_THAT(engine_->LoadModel("m", second_.path()),
              Fails(StatusCode::kAlreadyExists, "m"));
  ASSERT_THAT(engine_->UnloadModel("m", true), IsOk());
  ASSERT_THAT(engine_->LoadModel("m", second_.path()), IsOk());
  EXPECT_NE(Fingerprint("m"), before);
  EXPECT_THAT(engine_->GetSession("s"), Fails(StatusCode::kNotFound, "s"));
  ASSERT_THAT(Create("s", "m"), IsOk());
  EXPECT_EQ(engine_->GetSession("s")->model_fingerprint, Fingerprint("m"));
  EXPECT_THAT(AppendAll(*engine_, "s", std::string(200, 'x')), IsOk());
}

TEST_F(ModelsTest, AFailedLoadLeavesNoName) {
  EXPECT_THAT(engine_->LoadModel("n", first_.File("nothing")),
              Fails(StatusCode::kNotFound, "nothing"));
  EXPECT_THAT(engine_->GetModel("n"), Fails(StatusCode::kNotFound, "n"));
  EXPECT_THAT(engine_->LoadModel("n", first_.path()), IsOk());
}

// While one session is used, another model is loaded, given sessions, and
// unloaded, over and over; the used one must not notice.
TEST_F(ModelsTest, OthersAreServedMeanwhile) {
  const auto tell = [&](const std::string& id) {
    EXPECT_THAT(Create(id, "m"), IsOk());
    for (int i = 0; i < 10; ++i) {
      EXPECT_THAT(AppendAll(*engine_, id, std::string(150, 'a' + i)), IsOk());
      EXPECT_THAT(GenerateAll(*engine_, {.session = id,
                                         .max_tokens = 10,
                                         .sampling = {.temperature = 0.0f},
                                         .ignore_eos = true}),
                  IsOk());
    }
    return Describe(*engine_, id)->state_digest;
  };
  const std::string wanted = tell("alone");
  std::atomic<bool> stop = false;
  std::thread loader([&] {
    for (int i = 0; !stop || i < 5; ++i) {
      EXPECT_THAT(
          engine_->LoadModel("other", (i % 2 ? first_ : second_).path()),
          IsOk());
      EXPECT_THAT(Create("o", "other"), IsOk());
      EXPECT_THAT(AppendAll(*engine_, "o", std::string(100, 'o')), IsOk());
      EXPECT_THAT(engine_->UnloadModel("other", true), IsOk());
    }
  });
  // What asks for a model that comes and goes gets it or a clear answer.
  std::thread asker([&] {
    while (!stop) {
      const absl::Status status = Create("asker", "other");
      EXPECT_TRUE(status.ok() || absl::IsNotFound(status) ||
                  (absl::IsUnavailable(status) &&
                   GetReason(status)->reason == "MODEL_LOADING"))
          << status;
      for (const ModelInfo& model : engine_->ListModels()) {
        if (model.state == ModelState::kLoading) {
          EXPECT_EQ(model.name, "other");
        }
      }
      engine_->DeleteSession("asker", "").IgnoreError();
    }
  });
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(tell("beside" + std::to_string(i)), wanted);
  }
  stop = true;
  loader.join();
  asker.join();
}

}  // namespace
}  // namespace mneme
