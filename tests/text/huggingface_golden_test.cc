// SPDX-License-Identifier: Apache-2.0
//
// The cases of tests/golden/tokenizers, which make_tokenizer_cases.py had
// Hugging Face's tokenizers write: ids and texts have to be the same, whole
// and streamed.
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/files.h"
#include "engine/text/huggingface_tokenizer.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/text/streaming.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr char kFolder[] = MNEME_TEST_DATA "/tokenizers";

std::string Contents(const std::string& path) {
  auto text = ReadSmallFile(path, 1 << 20);
  EXPECT_THAT(text, IsOk());
  return text.ok() ? *text : "";
}

// The strings that all kinds have in common.
const std::vector<std::string>& Strings() {
  static const auto* const strings = new std::vector<std::string>(
      json::parse(Contents(absl::StrCat(kFolder, "/strings.json")))["strings"]
          .get<std::vector<std::string>>());
  return *strings;
}

std::vector<std::string> Kinds() {
  std::vector<std::string> kinds;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    if (entry.is_directory()) kinds.push_back(entry.path().filename());
  }
  std::sort(kinds.begin(), kinds.end());
  return kinds;
}

class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  GoldenTest() {
    auto made = MakeHuggingFaceTokenizer(Contents(File("tokenizer.json")),
                                         {.vocab_size = 2048, .eos = {2}});
    EXPECT_THAT(made, IsOk());
    if (made.ok()) tokenizer_ = *std::move(made);
  }
  void SetUp() override { ASSERT_NE(tokenizer_, nullptr); }

  static std::string File(const std::string& name) {
    return absl::StrCat(kFolder, "/", GetParam(), "/", name);
  }

  // By the string's number.
  static std::vector<std::vector<int32_t>> ExpectedIds() {
    std::vector<std::vector<int32_t>> all;
    std::vector<std::string> lines =
        absl::StrSplit(Contents(File("ids.txt")), '\n');
    lines.pop_back();
    for (const std::string& line : lines) {
      all.emplace_back();
      for (const auto id : absl::StrSplit(line, ' ', absl::SkipEmpty())) {
        all.back().push_back(0);
        EXPECT_TRUE(absl::SimpleAtoi(id, &all.back().back()));
      }
    }
    return all;
  }

  std::unique_ptr<const Tokenizer> tokenizer_;
};

TEST_P(GoldenTest, EncodesAsTokenizersDoesWholeAndStreamed) {
  const auto expected = ExpectedIds();
  ASSERT_EQ(expected.size(), Strings().size());
  ASSERT_GE(expected.size(), 2000u);
  std::mt19937 random(11);
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::string& text = Strings()[i];
    const std::vector<TextToken> whole = Whole(*tokenizer_, text);
    ASSERT_EQ(Ids(whole), expected[i]) << i << ": " << json(text).dump();
    const int64_t bytes = std::accumulate(
        whole.begin(), whole.end(), int64_t{0},
        [](int64_t sum, const TextToken& t) { return sum + t.bytes; });
    ASSERT_EQ(bytes, static_cast<int64_t>(text.size())) << i;
    for (const size_t longest_piece : {1, 3, 20}) {
      ASSERT_EQ(Streamed(*tokenizer_, text, random, longest_piece), whole)
          << i << ": " << json(text).dump();
    }
  }
}

TEST_P(GoldenTest, DecodesAsTokenizersDoes) {
  const auto ids = ExpectedIds();
  const json others = json::parse(Contents(File("decoded.json")));
  for (size_t i = 0; i < ids.size(); ++i) {
    std::string text;
    for (const int32_t id : ids[i]) text += tokenizer_->Decode(id);
    const std::string prefix(tokenizer_->prefix());
    if (text.compare(0, prefix.size(), prefix) == 0) {
      text.erase(0, prefix.size());
    }
    const auto other = others.find(std::to_string(i));
    const std::string expected =
        other == others.end() ? Strings()[i] : other->get<std::string>();
    ASSERT_EQ(text, expected) << i;
  }
}

// All strings as one text: long enough for the look at its front to be short
// of its end.
TEST_P(GoldenTest, LongTextsStreamAsTheyEncodeWhole) {
  std::string text;
  for (const std::string& string : Strings()) text += string;
  const std::vector<TextToken> whole = Whole(*tokenizer_, text);
  std::mt19937 random(12);
  EXPECT_EQ(Streamed(*tokenizer_, text, random, 50), whole);
  EXPECT_EQ(Streamed(*tokenizer_, text, random, 5000), whole);
  EXPECT_EQ(Streamed(*tokenizer_, text, random, 100000), whole);
}

// Runs without a place to cut them, and what stands before and behind them.
TEST_P(GoldenTest, RunsAreCutWhereverTheirPiecesComeFrom) {
  const std::string runs[] = {
      "a",       " ", "\n", "\xe5\xa4\xa9", "e\xcc\x81", "\xcc\x81\xcc\xa3",
      "<think>", "1", "'",  "\xc3\xa9!"};
  std::mt19937 random(13);
  for (const std::string& run : runs) {
    std::string text = "Ab c ";
    while (text.size() < 2 * Tokenizer::kMaxPendingBytes + 777) text += run;
    text += " <think> end";
    const std::vector<TextToken> whole = Whole(*tokenizer_, text);
    EXPECT_EQ(Streamed(*tokenizer_, text, random, 300), whole) << run;
    EXPECT_EQ(Streamed(*tokenizer_, text, random, 9000), whole) << run;
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, GoldenTest, testing::ValuesIn(Kinds()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace mneme
