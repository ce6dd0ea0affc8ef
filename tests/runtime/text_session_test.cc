// SPDX-License-Identifier: Apache-2.0
//
// Text sessions of a model whose tokens are pieces that merge.
#include <memory>
#include <string>

#include "engine/engine.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_sentencepiece.h"

namespace mneme {
namespace {

using testing::HasSubstr;

class TextSessionTest : public testing::Test {
 protected:
  void SetUp() override {
    ModelConfig config = *PresetConfig("ttt-linear-tiny");
    config.vocab_size = kTinyVocabSize;
    config.tokenizer = "sentencepiece";
    config.bos_token = 1;
    config.eos_tokens = {2};
    ASSERT_THAT(WriteRandomModel(config, 1, dir_.path()), IsOk());
    WriteFile(dir_.File("tokenizer.model"), TinySentencePieceModel());
    engine_ = *Engine::Create({.threads = 1});
    ASSERT_THAT(engine_->LoadModel("m", dir_.path()), IsOk());
    ASSERT_THAT(engine_->CreateSession({.id = "s", .model = "m"}), IsOk());
  }

  TempDir dir_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(TextSessionTest, PendingTextIsAbsorbedAndCounted) {
  EXPECT_EQ(engine_->GetModel("m")->tokenizer, "sentencepiece");
  ASSERT_THAT(AppendAll(*engine_, "s", std::string("the wor")), IsOk());
  const SessionInfo info = *Describe(*engine_, "s");
  EXPECT_EQ(info.position, 2);  // <s> and " the"
  EXPECT_EQ(info.pending_bytes, 4);
  EXPECT_EQ(info.absorbed_offset, 7);
  EXPECT_EQ(info.next_offset, 7);
  EXPECT_NE(info.history_digest, "");
}

TEST_F(TextSessionTest, PendingTextIsPartOfTheState) {
  ASSERT_THAT(engine_->CreateSession({.id = "t", .model = "m"}), IsOk());
  ASSERT_THAT(AppendAll(*engine_, "s", std::string("the wor")), IsOk());
  ASSERT_THAT(AppendAll(*engine_, "t", std::string("the wo")), IsOk());
  const SessionInfo one = *Describe(*engine_, "s");
  const SessionInfo other = *Describe(*engine_, "t");
  EXPECT_EQ(one.position, other.position);
  EXPECT_NE(one.state_digest, other.state_digest);
}

TEST_F(TextSessionTest, AnAskEndsTheText) {
  ASSERT_THAT(AppendAll(*engine_, "s", std::string("the wor")), IsOk());
  const auto said = GenerateAll(
      *engine_, {.session = "s", .max_tokens = 1, .ignore_eos = true});
  ASSERT_THAT(said, IsOk());
  EXPECT_EQ(said->started.ask_position, 3);  // " wor" is a piece
  EXPECT_EQ(said->started.offset, 7);
  EXPECT_EQ(said->finished.stats.prompt_tokens, 1);
  EXPECT_EQ(Describe(*engine_, "s")->pending_bytes, 0);
}

TEST_F(TextSessionTest, APromptGoesOnWithPendingText) {
  ASSERT_THAT(AppendAll(*engine_, "s", std::string("the wor")), IsOk());
  for (const bool commit : {false, true}) {
    const auto said = GenerateAll(*engine_, {.session = "s",
                                             .prompt = std::string("d and"),
                                             .max_tokens = 1,
                                             .ignore_eos = true,
                                             .commit = commit});
    ASSERT_THAT(said, IsOk());
    // <s>, " the", " word", " and"
    EXPECT_EQ(said->started.ask_position, 4) << commit;
    EXPECT_EQ(said->started.offset, 12) << commit;
    EXPECT_EQ(said->finished.stats.prompt_tokens, 2) << commit;
    EXPECT_EQ(Describe(*engine_, "s")->pending_bytes, commit ? 0 : 4);
  }
}

TEST_F(TextSessionTest, HalfACharacterOutlivesAnAsk) {
  ASSERT_THAT(AppendAll(*engine_, "s", std::string("the\xf0\x9f")), IsOk());
  ASSERT_THAT(GenerateAll(*engine_, {.session = "s", .max_tokens = 3}), IsOk());
  EXPECT_EQ(Describe(*engine_, "s")->pending_bytes, 2);
  ASSERT_THAT(AppendAll(*engine_, "s", std::string("\x98\x80")), IsOk());
  const absl::Status status = AppendAll(*engine_, "s", std::string("\x98"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("wanted UTF-8"));
  EXPECT_THAT(status, HasReason("BAD_UTF8"));
}

TEST_F(TextSessionTest, ScoresSayWhereTheirTokensBegin) {
  ASSERT_THAT(AppendAll(*engine_, "s", std::string("the")), IsOk());
  for (const bool commit : {false, true}) {
    const auto scored = ScoreAll(*engine_, {.session = "s", .commit = commit},
                                 std::string(" word\xf0\x9f\x98\x80"), {1, 3});
    ASSERT_THAT(scored, IsOk());
    ASSERT_EQ(scored->tokens.size(), 5u);
    EXPECT_EQ(scored->tokens[0].offset, 3);
    EXPECT_EQ(scored->tokens[1].offset, 8);
    EXPECT_EQ(scored->tokens[4].offset, 11);
    EXPECT_EQ(scored->finished.totals.bytes, 9);
  }
  EXPECT_EQ(Describe(*engine_, "s")->next_offset, 12);
  const auto cut = ScoreAll(*engine_, {.session = "s"}, std::string("a\xf0"));
  EXPECT_EQ(cut.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(cut.status().message()),
              HasSubstr("inside a character"));
}

TEST_F(TextSessionTest, TextIsTokenizedWithoutASession) {
  const auto tokens = engine_->Tokenize("m", "the word");
  ASSERT_THAT(tokens, IsOk());
  ASSERT_EQ(tokens->size(), 2u);
  EXPECT_EQ((*tokens)[1].bytes, 5);
  EXPECT_EQ(*engine_->Detokenize("m", {(*tokens)[0].id, (*tokens)[1].id}),
            "the word");
  EXPECT_EQ(*engine_->Detokenize("m", {1, (*tokens)[1].id}), "word");
  const auto refused = [&](const absl::Status& status,
                           const std::string& what) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  };
  refused(engine_->Tokenize("m", "a\xff").status(), "found byte 1");
  refused(engine_->Tokenize("m", "a\xc3").status(), "cut off");
  EXPECT_THAT(engine_->Tokenize("m", "a\xc3"), HasReason("BAD_UTF8"));
  refused(engine_->Tokenize("m", std::string(1 << 21, 'a')).status(),
          "found 2097152 bytes, wanted 1048576 at most");
  refused(engine_->Detokenize("m", {320}).status(), "wanted 0 to 319");
  refused(engine_->Detokenize("m", {-1}).status(), "token 0 is -1");
}

TEST_F(TextSessionTest, AnotherTokenizerIsAnotherModel) {
  const std::string before = engine_->GetModel("m")->fingerprint;
  std::string file = TinySentencePieceModel();
  file += std::string("\x12\x03\x98\x02\x00", 5);  // byte_fallback: false
  WriteFile(dir_.File("tokenizer.model"), file);
  ASSERT_THAT(engine_->LoadModel("n", dir_.path()), IsOk());
  EXPECT_NE(engine_->GetModel("n")->fingerprint, before);
  WriteFile(dir_.File("tokenizer.model"), "not one");
  const absl::Status refused = engine_->LoadModel("o", dir_.path());
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("tokenizer.model"));
}

}  // namespace
}  // namespace mneme
