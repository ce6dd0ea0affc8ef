// SPDX-License-Identifier: Apache-2.0
//
// Models that attend to all tokens of a session, of which it takes a declared
// number.
#include <string>

#include "engine/engine.h"
#include "engine/tools/presets.h"
#include "gtest/gtest.h"
#include "tests/runtime/engine_fixture.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

constexpr int64_t kLimit = 100;  // with the token that begins a history

class TokenLimitTest : public EngineTest {
 protected:
  void SetUp() override {
    ModelConfig config = *PresetConfig("window-tiny");
    config.attention.window = 0;
    config.attention.sinks = 0;
    config.attention.limit = kLimit;
    ASSERT_THAT(WriteRandomModel(config, 1, model_dir_.path()), IsOk());
    StartEngine({.threads = 2});
    Create("s");
  }

  absl::Status Append(const std::string& text) {
    return AppendAll(*engine_, "s", text);
  }
  absl::StatusOr<Generated> Generate(int64_t tokens, std::string prompt = "") {
    GenerateOptions options{.session = "s", .max_tokens = tokens};
    options.ignore_eos = true;
    if (!prompt.empty()) options.prompt = prompt;
    return GenerateAll(*engine_, options);
  }
  int64_t Position() { return Describe(*engine_, "s")->position; }
};

TEST_F(TokenLimitTest, TheModelTellsOfIt) {
  EXPECT_EQ(engine_->GetModel("tiny")->token_limit, kLimit);
}

TEST_F(TokenLimitTest, ASessionTakesExactlyAsManyTokens) {
  ASSERT_THAT(Append(std::string(kLimit - 1, 'a')), IsOk());
  EXPECT_EQ(Position(), kLimit);
  const absl::Status refused = Append("b");
  EXPECT_THAT(refused, HasReason("TOKEN_LIMIT"));
  EXPECT_THAT(refused, Fails(absl::StatusCode::kFailedPrecondition,
                             "beyond the 100 tokens"));
  EXPECT_THAT(refused, Fails(absl::StatusCode::kFailedPrecondition,
                             "want a new or a reset session, or the model "
                             "served with attention_window"));
  EXPECT_EQ(Position(), kLimit);
}

TEST_F(TokenLimitTest, ARefusedSegmentLeavesRoomForASmallerOne) {
  ASSERT_THAT(Append(std::string(90, 'a')), IsOk());
  EXPECT_THAT(Append(std::string(10, 'b')), HasReason("TOKEN_LIMIT"));
  EXPECT_EQ(Describe(*engine_, "s")->next_offset, 90);
  EXPECT_THAT(Append(std::string(9, 'c')), IsOk());
  EXPECT_EQ(Position(), kLimit);
}

TEST_F(TokenLimitTest, AnAnswerEndsAtTheLimit) {
  ASSERT_THAT(Append(std::string(89, 'a')), IsOk());
  const absl::StatusOr<Generated> said = Generate(50);
  ASSERT_THAT(said, IsOk());
  EXPECT_EQ(said->finished.reason, FinishReason::kLength);
  EXPECT_EQ(said->finished.position, kLimit);
  EXPECT_EQ(said->finished.stats.generated_tokens, 10);
  EXPECT_THAT(Generate(1), HasReason("TOKEN_LIMIT"));
  EXPECT_EQ(Position(), kLimit);
}

TEST_F(TokenLimitTest, PromptsAreRefusedWhole) {
  ASSERT_THAT(Append(std::string(89, 'a')), IsOk());
  EXPECT_THAT(Generate(1, std::string(11, 'b')), HasReason("TOKEN_LIMIT"));
  EXPECT_EQ(Position(), 90);
  EXPECT_THAT(Generate(1, std::string(5, 'b')), IsOk());
}

TEST_F(TokenLimitTest, ScoringScoresWhatFitsAndSaysSo) {
  ASSERT_THAT(Append(std::string(89, 'a')), IsOk());
  EXPECT_THAT(ScoreAll(*engine_, {.session = "s"}, std::string(10, 'b')),
              IsOk());
  EXPECT_THAT(ScoreAll(*engine_, {.session = "s"}, std::string(11, 'b')),
              HasReason("TOKEN_LIMIT"));
  EXPECT_EQ(Position(), 90);
}

TEST_F(TokenLimitTest, AResetSessionBeginsAnew) {
  ASSERT_THAT(Append(std::string(kLimit - 1, 'a')), IsOk());
  ASSERT_THAT(Reset(*engine_, {.session = "s"}), IsOk());
  EXPECT_THAT(Append(std::string(kLimit - 1, 'a')), IsOk());
}

}  // namespace
}  // namespace mneme
