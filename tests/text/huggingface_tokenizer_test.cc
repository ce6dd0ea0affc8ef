// SPDX-License-Identifier: Apache-2.0
#include "engine/text/huggingface_tokenizer.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/text/streaming.h"

namespace mneme {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr int64_t kVocabSize = 2048;

std::string Contents(const std::string& kind) {
  auto text = ReadSmallFile(
      absl::StrCat(MNEME_TEST_DATA, "/tokenizers/", kind, "/tokenizer.json"),
      1 << 20);
  EXPECT_THAT(text, IsOk());
  return *text;
}

json File(const std::string& kind) { return json::parse(Contents(kind)); }

absl::StatusOr<std::unique_ptr<const Tokenizer>> Make(const json& file) {
  return MakeHuggingFaceTokenizer(
      file.dump(), {.vocab_size = kVocabSize, .bos = 7, .eos = {2}});
}

std::unique_ptr<const Tokenizer> Made(const json& file) {
  auto made = Make(file);
  EXPECT_THAT(made, IsOk());
  return *std::move(made);
}

// A file of `kind` with another component at `pointer`.
json With(const std::string& kind, const char* pointer, const json& component) {
  json file = File(kind);
  file[json::json_pointer(pointer)] = component;
  return file;
}

int32_t IdOf(const json& file, const std::string& token) {
  return file["model"]["vocab"][token].get<int32_t>();
}

TEST(HuggingFaceTokenizerTest, SpecialTokensInTextAreText) {
  const json file = File("qwen");
  const auto tokenizer = Made(file);
  for (const char* name : {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}) {
    const int32_t special = IdOf(file, name);
    for (const TextToken& token : Whole(*tokenizer, name)) {
      EXPECT_NE(token.id, special) << name;
    }
    EXPECT_EQ(tokenizer->Decode(special), "") << name;
    EXPECT_EQ(tokenizer->sayable()[special], 0) << name;
  }
}

// A word that is a token as a whole goes before its merges: but no special one.
TEST(HuggingFaceTokenizerTest, ASpecialTokenIsNoWordEither) {
  json file = File("llama3");
  const int32_t word = IdOf(file, "\xc4\xa0the");  // " the"
  EXPECT_THAT(Ids(Whole(*Made(file), " the")), ElementsAre(word));
  file["model"]["merges"] = json::array();
  EXPECT_THAT(Ids(Whole(*Made(file), " the")), ElementsAre(word));
  file["added_tokens"].push_back(
      {{"id", word}, {"content", "<the>"}, {"special", true}});
  EXPECT_EQ(Whole(*Made(file), " the").size(), 4u);
}

// Nor a character, nor what others are merged to.
TEST(HuggingFaceTokenizerTest, ASpecialTokenIsNotMadeOfCharacters) {
  json file = File("llama3");
  const int32_t letter = IdOf(file, "b");
  const int32_t word = IdOf(file, "\xc4\xa0the");  // " the"
  for (const auto& [id, content] :
       {std::pair<int32_t, const char*>{letter, "b"}, {word, "\xc4\xa0the"}}) {
    file["added_tokens"].push_back({{"id", id},
                                    {"content", content},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false},
                                    {"special", true}});
  }
  file["model"]["unk_token"] = "a";
  const auto tokenizer = Made(file);
  for (const TextToken& token : Whole(*tokenizer, "abba the the")) {
    EXPECT_NE(token.id, letter);
    EXPECT_NE(token.id, word);
  }
}

// Older files say the replacement twice.
TEST(HuggingFaceTokenizerTest, TheReplacementMayBeSaidTwice) {
  const auto metaspace = [](const char* again) {
    return With("metaspace", "/pre_tokenizer",
                {{"type", "Metaspace"},
                 {"replacement", "\xe2\x96\x81"},
                 {"str_rep", again},
                 {"add_prefix_space", true}});
  };
  EXPECT_THAT(Make(metaspace("\xe2\x96\x81")), IsOk());
  EXPECT_THAT(Make(metaspace("_")), Fails(kInvalid, "\"str_rep\""));
}

// Or four letters would be a gigabyte.
TEST(HuggingFaceTokenizerTest, ReplacementsOfReplacementsAreBounded) {
  const json longer = {{"type", "Replace"},
                       {"pattern", {{"String", "a"}}},
                       {"content", std::string(20, 'a')}};
  const json steps = {longer, longer};
  EXPECT_THAT(Make(With("llama2", "/normalizer",
                        {{"type", "Sequence"}, {"normalizers", steps}})),
              Fails(kInvalid, "replacements by 400 bytes in turn"));
  EXPECT_THAT(Make(With("llama2", "/decoder",
                        {{"type", "Sequence"}, {"decoders", steps}})),
              Fails(kInvalid, "replacements by 400 bytes in turn"));
}

TEST(HuggingFaceTokenizerTest, OtherAddedTokensAreFoundInText) {
  const json file = File("qwen");
  const auto tokenizer = Made(file);
  const int32_t call = IdOf(file, "<tool_call>");
  EXPECT_THAT(Whole(*tokenizer, "<tool_call>"),
              ElementsAre(TextToken{call, 11}));
  EXPECT_EQ(tokenizer->Decode(call), "<tool_call>");
  EXPECT_EQ(tokenizer->sayable()[call], 1);
  // What may yet become one waits.
  std::vector<TextToken> tokens;
  EXPECT_EQ(tokenizer->EncodeFront("<tool_ca", {}, SIZE_MAX, tokens), 0);
}

TEST(HuggingFaceTokenizerTest, WordsComeOutOnceTheNextOneBegins) {
  const auto tokenizer = Made(File("llama3"));
  std::vector<TextToken> tokens;
  EXPECT_EQ(tokenizer->EncodeFront("the earth", {}, SIZE_MAX, tokens), 3);
  EXPECT_EQ(tokenizer->EncodeFront(" earth", {}, SIZE_MAX, tokens), 0);
  EXPECT_EQ(tokenizer->EncodeFront(" earth ", {}, SIZE_MAX, tokens), 6);
  // Of several spaces the last may belong to a word.
  EXPECT_EQ(tokenizer->EncodeFront("   ", {}, SIZE_MAX, tokens), 0);
  EXPECT_EQ(tokenizer->EncodeFront("   x", {}, SIZE_MAX, tokens), 2);
}

TEST(HuggingFaceTokenizerTest, CharactersWaitForTheMarksOnThem) {
  const auto tokenizer = Made(File("qwen"));
  std::vector<TextToken> tokens;
  EXPECT_EQ(tokenizer->EncodeFront("ab c", {}, SIZE_MAX, tokens), 2);
  EXPECT_EQ(tokenizer->EncodeFront("ab e\xcc\x81 ", {}, SIZE_MAX, tokens), 2);
  EXPECT_EQ(tokenizer->EncodeFront(" e\xcc\x81 x", {}, SIZE_MAX, tokens), 4);
}

TEST(HuggingFaceTokenizerTest, ACharacterThatIsCutOffWaitsEvenAtTheEnd) {
  const auto tokenizer = Made(File("gpt2"));
  std::vector<TextToken> tokens;
  EXPECT_EQ(
      tokenizer->EncodeFront("x\xf0\x9f\x98", {.ends = true}, SIZE_MAX, tokens),
      1);
  EXPECT_EQ(
      tokenizer->EncodeFront("\xf0\x9f\x98", {.ends = true}, SIZE_MAX, tokens),
      0);
  EXPECT_TRUE(tokenizer->utf8());
}

TEST(HuggingFaceTokenizerTest, EncodeFrontStopsWhenThereAreEnough) {
  const auto tokenizer = Made(File("gpt2"));
  std::vector<TextToken> tokens = {{5, 1}};
  EXPECT_EQ(tokenizer->EncodeFront("1 2 3 4", {.ends = true}, 3, tokens), 3);
  EXPECT_EQ(tokens.size(), 3u);
  EXPECT_EQ(tokenizer->EncodeFront("1 2 3 4", {.ends = true}, 3, tokens), 0);
}

TEST(HuggingFaceTokenizerTest, ThePostProcessorSaysWhatAHistoryBeginsWith) {
  const json llama = File("llama3");
  EXPECT_EQ(Made(llama)->bos(), IdOf(llama, "<|begin_of_text|>"));
  EXPECT_EQ(Made(File("mistral"))->bos(), 1);
  EXPECT_FALSE(Made(File("qwen"))->bos().has_value());
  EXPECT_FALSE(Made(File("gemma"))->bos().has_value());
}

TEST(HuggingFaceTokenizerTest, SaysWhatAModelMaySay) {
  const auto tokenizer = Made(File("llama2"));
  EXPECT_EQ(tokenizer->kind(), "huggingface");
  ASSERT_EQ(tokenizer->sayable().size(), static_cast<size_t>(kVocabSize));
  EXPECT_EQ(tokenizer->sayable()[0], 0);  // unknown
  EXPECT_EQ(tokenizer->sayable()[1], 0);  // the beginning of a text
  EXPECT_EQ(tokenizer->sayable()[2], 1);  // its end
  EXPECT_EQ(tokenizer->sayable()[3], 1);  // a byte
  EXPECT_EQ(tokenizer->sayable()[kVocabSize - 1], 0);
  EXPECT_THAT(tokenizer->eos(), ElementsAre(2));
  EXPECT_EQ(tokenizer->Decode(3), std::string(1, '\0'));
  for (const int32_t token : {2, 2047, 2048, -1, INT32_MIN}) {
    EXPECT_EQ(tokenizer->Decode(token), "") << token;
  }
}

TEST(HuggingFaceTokenizerTest, TextThatIsInNoFormOfTheNormalizerCounts) {
  const auto tokenizer = Made(File("qwen"));
  // "e" and its accent are one character to the model, and three bytes.
  std::vector<TextToken> tokens = Whole(*tokenizer, "e\xcc\x81");
  int32_t bytes = 0;
  for (const TextToken& token : tokens) bytes += token.bytes;
  EXPECT_EQ(bytes, 3);
  EXPECT_EQ(Ids(tokens), Ids(Whole(*tokenizer, "\xc3\xa9")));
}

TEST(HuggingFaceTokenizerTest, RefusesByNameWhatIsNotServed) {
  const auto refused = [](const json& file, const std::string& what) {
    EXPECT_THAT(Make(file), Fails(kInvalid, what));
  };
  refused(With("gpt2", "/model/type", "WordPiece"),
          "model: \"type\": found \"WordPiece\", want \"BPE\"");
  refused(With("gpt2", "/model/dropout", 0.1),
          "model: \"dropout\": found 0.1, want 0.0");
  refused(With("gpt2", "/model/end_of_word_suffix", "</w>"),
          "\"end_of_word_suffix\": found \"</w>\", want \"\"");
  refused(With("gpt2", "/model/novelty", 1), "found 1, want no such field");
  refused(With("gpt2", "/normalizer", {{"type", "Nmt"}}),
          "normalizer: \"type\": found \"Nmt\", want NFC");
  refused(With("gpt2", "/normalizer",
               {{"type", "Replace"},
                {"pattern", {{"Regex", "a+"}}},
                {"content", "b"}}),
          "normalizer: \"pattern\"");
  refused(With("gpt2", "/pre_tokenizer", {{"type", "BertPreTokenizer"}}),
          "pre_tokenizer: \"type\": found \"BertPreTokenizer\"");
  refused(With("gpt2", "/pre_tokenizer",
               {{"type", "Split"},
                {"pattern", {{"Regex", "\\s+"}}},
                {"behavior", "Removed"},
                {"invert", false}}),
          "\"behavior\": found \"Removed\", want \"Isolated\"");
  refused(With("gpt2", "/post_processor", {{"type", "BertProcessing"}}),
          "post_processor: \"type\": found \"BertProcessing\"");
  refused(With("gpt2", "/decoder", {{"type", "WordPiece"}}),
          "decoder: \"type\": found \"WordPiece\"");
  refused(With("gpt2", "/decoder", nullptr), "decoder: found none");
  refused(With("qwen", "/added_tokens/3/lstrip", true),
          "\"lstrip\": found true, want false");
  refused(With("qwen", "/added_tokens/3/normalized", true),
          "\"normalized\": found true, want false");
  refused(With("gpt2", "/model/merges/0", "a b c"),
          "merge 0: found \"a b c\", want two tokens");
  refused(With("gpt2", "/model/merges/7", {"qqq", "a"}),
          "found no \"qqq\", want it there: merge 7 names it");
  refused(With("gpt2", "/model/vocab/!", 2048),
          "found 2048, want an id below 2048, config.json's \"vocab_size\"");
  refused(With("gpt2", "/model/vocab/!", 5), "want a token with an id of its");
  refused(With("llama2", "/model/vocab/<0x41>", 2000)
              .patch({{{"op", "remove"}, {"path", "/model/vocab/<0x42>"}}}),
          "found no \"<0x42>\", want it there");
  refused(With("metaspace", "/model/unk_token", nullptr),
          "found characters that no token stands for");
}

TEST(HuggingFaceTokenizerTest, OlderFilesAreRead) {
  json file = File("gpt2");
  file["model"].erase("type");  // before there were other models
  file["model"].erase("ignore_merges");
  file["model"].erase("byte_fallback");
  EXPECT_EQ(Whole(*Made(file), "the end"),
            Whole(*Made(File("gpt2")), "the end"));
  file = File("mistral");
  file["pre_tokenizer"] = {{"type", "Metaspace"},
                           {"replacement", "\xe2\x96\x81"},
                           {"add_prefix_space", true}};
  EXPECT_THAT(Make(file), IsOk());
}

// Found in sections that others leave, in the order in which they were added.
TEST(HuggingFaceTokenizerTest, NormalizedAddedTokensComeAfterTheOthers) {
  json file = File("gpt2");
  file["added_tokens"].push_back({{"id", 2000}, {"content", "xy"}});
  file["added_tokens"].push_back(
      {{"id", 2001}, {"content", "yz"}, {"normalized", false}});
  const auto tokenizer = Made(file);
  EXPECT_THAT(Ids(Whole(*tokenizer, "xyxyz")),
              ElementsAre(2000, IdOf(file, "x"), 2001));
}

TEST(HuggingFaceTokenizerTest, DamagedFilesAreRefusedOrHarmless) {
  for (const char* kind : {"llama3", "mistral", "qwen"}) {
    const std::string good = Contents(kind);
    for (size_t size = 0; size + 2 < good.size(); size += 1 + size / 20) {
      EXPECT_THAT(MakeHuggingFaceTokenizer(good.substr(0, size),
                                           {.vocab_size = kVocabSize}),
                  Fails(kInvalid, "tokenizer.json"));
    }
    std::mt19937 random(14);
    for (int i = 0; i < 200; ++i) {
      std::string bad = good;
      for (int n = 0; n < 3; ++n) {
        bad[random() % bad.size()] = static_cast<char>(' ' + random() % 95);
      }
      const auto made =
          MakeHuggingFaceTokenizer(bad, {.vocab_size = kVocabSize});
      if (made.ok()) Whole(**made, "And <think> it doesn't \xe5\xa4\xa9 12.");
    }
  }
}

TEST(HuggingFaceTokenizerTest, AnEmptyTextHasNoTokens) {
  for (const char* kind : {"llama2", "gpt2_prefix_space"}) {
    EXPECT_THAT(Whole(*Made(File(kind)), ""), IsEmpty());
  }
}

}  // namespace
}  // namespace mneme
