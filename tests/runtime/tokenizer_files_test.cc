// SPDX-License-Identifier: Apache-2.0
//
// Models whose directories have files of tokenizers.
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
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

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

class TokenizerFilesTest : public testing::Test {
 protected:
  void SetUp() override { engine_ = *Engine::Create({.threads = 1}); }

  // A model with the tokenizer.json of `kind` in tests/golden/tokenizers.
  // `tokenizer`: what config.json says; empty: nothing.
  absl::Status Load(const std::string& name, const std::string& kind,
                    const std::string& tokenizer = "",
                    int64_t vocab_size = 1536) {
    ModelConfig config = *PresetConfig("ttt-linear-tiny");
    config.vocab_size = vocab_size;
    config.tokenizer = tokenizer.empty() ? "none" : tokenizer;
    config.bos_token = 1;
    config.eos_tokens = {2};
    const std::string directory = dirs_[loaded_++].path();
    EXPECT_THAT(WriteRandomModel(config, 1, directory), IsOk());
    if (tokenizer.empty()) {
      std::string text = ReadFile(directory + "/config.json");
      const std::string key = "\"tokenizer\": \"none\"";
      const size_t at = text.find(key);
      EXPECT_NE(at, text.npos);
      WriteFile(directory + "/config.json",
                text.replace(at, key.size(), "\"use_cache\": true"));
    }
    WriteFile(directory + "/tokenizer.json",
              ReadFile(absl::StrCat(MNEME_TEST_DATA, "/tokenizers/", kind,
                                    "/tokenizer.json")));
    WriteFile(directory + "/tokenizer.model", TinySentencePieceModel());
    return engine_->LoadModel(name, directory);
  }

  TempDir dirs_[3];
  int loaded_ = 0;
  std::unique_ptr<Engine> engine_;
};

TEST_F(TokenizerFilesTest, TokenizerJsonComesFirst) {
  ASSERT_THAT(Load("by-default", "mistral"), IsOk());
  EXPECT_EQ(engine_->GetModel("by-default")->tokenizer, "huggingface");
  ASSERT_THAT(Load("named", "mistral", "sentencepiece"), IsOk());
  EXPECT_EQ(engine_->GetModel("named")->tokenizer, "sentencepiece");
}

TEST_F(TokenizerFilesTest, TheFileIsPartOfTheFingerprint) {
  ASSERT_THAT(Load("a", "mistral"), IsOk());
  ASSERT_THAT(Load("b", "llama2"), IsOk());
  ASSERT_THAT(Load("c", "mistral", "huggingface"), IsOk());
  const std::string fingerprint = engine_->GetModel("a")->fingerprint;
  EXPECT_NE(fingerprint, engine_->GetModel("b")->fingerprint);
  EXPECT_EQ(fingerprint, engine_->GetModel("c")->fingerprint);
}

// Whatever config.json says: Qwen's names a token that nothing begins with.
TEST_F(TokenizerFilesTest, TheFileSaysWhatAHistoryBeginsWith) {
  ASSERT_THAT(Load("none", "qwen"), IsOk());
  EXPECT_FALSE(engine_->GetModel("none")->bos_token.has_value());
  ASSERT_THAT(Load("some", "mistral"), IsOk());
  EXPECT_EQ(engine_->GetModel("some")->bos_token, 1);
  for (const char* model : {"none", "some"}) {
    ASSERT_THAT(engine_->CreateSession({.id = model, .model = model}), IsOk());
    ASSERT_THAT(AppendAll(*engine_, model, std::string("the x")), IsOk());
  }
  EXPECT_EQ(Describe(*engine_, "some")->position,
            1 + static_cast<int64_t>(engine_->Tokenize("some", "the")->size()));
  EXPECT_EQ(Describe(*engine_, "none")->position,
            static_cast<int64_t>(engine_->Tokenize("none", "the")->size()));
}

TEST_F(TokenizerFilesTest, SegmentsLeaveNoTraceInTheState) {
  ASSERT_THAT(Load("m", "qwen"), IsOk());
  const std::string text =
      "We'll see e\xcc\x81 123  \r\n\r\n <tool_call>{\"a\": 1}</tool_call> "
      "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x94\xac <|im_end|>    end";
  ASSERT_THAT(engine_->CreateSession({.id = "whole", .model = "m"}), IsOk());
  ASSERT_THAT(AppendAll(*engine_, "whole", text), IsOk());
  const SessionInfo whole = *Describe(*engine_, "whole");
  EXPECT_EQ(whole.absorbed_offset, static_cast<int64_t>(text.size()));
  for (const int64_t size : {1, 2, 5}) {
    const std::string id = absl::StrCat("by", size);
    ASSERT_THAT(engine_->CreateSession({.id = id, .model = "m"}), IsOk());
    ASSERT_THAT(AppendAll(*engine_, id, text, {size}), IsOk());
    EXPECT_EQ(Describe(*engine_, id)->state_digest, whole.state_digest);
    EXPECT_EQ(Describe(*engine_, id)->position, whole.position);
  }
}

TEST_F(TokenizerFilesTest, RefusesAVocabularyThatIsLargerThanTheModels) {
  EXPECT_THAT(Load("m", "gpt2", "", 500),
              Fails(kInvalid, "want an id below 500, config.json's"));
}

TEST_F(TokenizerFilesTest, WordsComeFromALineEach) {
  ModelConfig config = *PresetConfig("ttt-linear-tiny");
  config.vocab_size = 256;
  config.tokenizer = "words";
  config.lower_case = true;
  config.bos_token.reset();
  config.eos_tokens = {0};
  const std::string directory = dirs_[0].path();
  ASSERT_THAT(WriteRandomModel(config, 1, directory), IsOk());
  EXPECT_THAT(engine_->LoadModel("m", directory),
              Fails(absl::StatusCode::kNotFound, "vocab.txt"));
  WriteFile(directory + "/vocab.pkl", "\x80\x04}.");
  EXPECT_THAT(engine_->LoadModel("m", directory),
              Fails(kInvalid, "found vocab.pkl, a Python pickle"));
  WriteFile(directory + "/vocab.txt", "<eos>\n<unk>\nthe\n");
  ASSERT_THAT(engine_->LoadModel("m", directory), IsOk());
  EXPECT_EQ(engine_->GetModel("m")->tokenizer, "words");
  EXPECT_EQ(engine_->Tokenize("m", "The sea\n")->size(), 3u);
  // What no word follows yet is part of the history, and waits.
  ASSERT_THAT(engine_->CreateSession({.id = "s", .model = "m"}), IsOk());
  ASSERT_THAT(AppendAll(*engine_, "s", std::string("the the  ")), IsOk());
  ASSERT_THAT(GenerateAll(*engine_, {.session = "s", .max_tokens = 3}), IsOk());
  EXPECT_EQ(Describe(*engine_, "s")->pending_bytes, 2);
  ASSERT_THAT(AppendAll(*engine_, "s", std::string("the\n")), IsOk());
  EXPECT_EQ(Describe(*engine_, "s")->pending_bytes, 0);
}

}  // namespace
}  // namespace mneme
