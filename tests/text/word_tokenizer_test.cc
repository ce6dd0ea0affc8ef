// SPDX-License-Identifier: Apache-2.0
#include "engine/text/word_tokenizer.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/text/streaming.h"

namespace mneme {
namespace {

using testing::ElementsAre;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
// Ids 0 to 8; counts as vocabulary.py writes them beside some.
constexpr char kWords[] =
    "<eos>\n<unk> 12\nthe 9\n,\nearth\n=\nstra\xc3\x9f"
    "e\nThe\n@,@";
enum Id { kEos, kUnk, kThe, kComma, kEarth, kEquals, kStreet, kCapital };

std::unique_ptr<const Tokenizer> Made(bool lower_case = false) {
  auto made = MakeWordTokenizer(
      kWords, {.vocab_size = 10, .eos = {kEos}, .lower_case = lower_case});
  EXPECT_THAT(made, IsOk());
  return *std::move(made);
}

// vocabulary.py's encode_file with ordered=True, add_eos=True, over a file
// whose white space is ASCII: line by line, the words and <eos>.
std::vector<int32_t> AsVocabularyPy(const std::string& text) {
  const std::vector<std::string> words = {"<eos>",
                                          "<unk>",
                                          "the",
                                          ",",
                                          "earth",
                                          "=",
                                          "stra\xc3\x9f"
                                          "e",
                                          "The",
                                          "@,@"};
  std::vector<int32_t> ids;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream symbols(line);
    for (std::string symbol; symbols >> symbol;) {
      const auto it = std::find(words.begin() + 1, words.end(), symbol);
      ids.push_back(
          it == words.end() ? kUnk : static_cast<int32_t>(it - words.begin()));
    }
    if (!lines.eof()) ids.push_back(kEos);
  }
  return ids;
}

TEST(WordTokenizerTest, LinesAreWordsAndTheirEnd) {
  const auto tokenizer = Made();
  EXPECT_EQ(tokenizer->kind(), "words");
  EXPECT_THAT(
      Whole(*tokenizer, " = The earth , = \n\nthe sea"),
      ElementsAre(TextToken{kEquals, 2}, TextToken{kCapital, 4},
                  TextToken{kEarth, 6}, TextToken{kComma, 2},
                  TextToken{kEquals, 2}, TextToken{kEos, 2}, TextToken{kEos, 1},
                  TextToken{kThe, 3}, TextToken{kUnk, 4}));
}

TEST(WordTokenizerTest, StreamedTextIsWhatVocabularyPyMakesOfTheWhole) {
  const auto tokenizer = Made();
  std::mt19937 random(15);
  const std::vector<std::string> parts = {"the",
                                          "The",
                                          "earth",
                                          "\n",
                                          "\n\n",
                                          " ",
                                          "  ",
                                          "\t",
                                          "\r\n",
                                          ",",
                                          "@,@ ",
                                          "sea",
                                          "e\xcc\x81",
                                          "=",
                                          "<eos>",
                                          "<unk>",
                                          "stra\xc3\x9f"
                                          "e",
                                          "\xe5\xa4\xa9"};
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (int n = 0; n < 12; ++n) text += parts[random() % parts.size()];
    text += "x";
    const std::vector<TextToken> whole = Whole(*tokenizer, text);
    ASSERT_EQ(Ids(whole), AsVocabularyPy(text)) << text;
    ASSERT_EQ(Streamed(*tokenizer, text, random, 1 + i % 9), whole) << text;
    const int64_t bytes = std::accumulate(
        whole.begin(), whole.end(), int64_t{0},
        [](int64_t sum, const TextToken& t) { return sum + t.bytes; });
    ASSERT_EQ(bytes, static_cast<int64_t>(text.size())) << text;
  }
}

TEST(WordTokenizerTest, WhiteSpaceWaitsForItsWordEvenAtTheEnd) {
  const auto tokenizer = Made();
  std::vector<TextToken> tokens;
  EXPECT_EQ(tokenizer->EncodeFront("the  ", {.ends = true}, SIZE_MAX, tokens),
            3);
  EXPECT_EQ(tokenizer->EncodeFront("  ", {.ends = true}, SIZE_MAX, tokens), 0);
  EXPECT_EQ(tokenizer->EncodeFront("  th", {}, SIZE_MAX, tokens), 0);
  EXPECT_EQ(
      tokenizer->EncodeFront("  the\xe5\xa4", {.ends = true}, SIZE_MAX, tokens),
      5);
  EXPECT_THAT(Ids(tokens), ElementsAre(kThe, kThe));
}

TEST(WordTokenizerTest, RunsAreCutWhereverTheirPiecesComeFrom) {
  const auto tokenizer = Made();
  std::mt19937 random(16);
  for (const std::string run : {"a", " ", "\xe5\xa4\xa9", "\xe3\x80\x80"}) {
    std::string text = "the ";
    while (text.size() < 2 * Tokenizer::kMaxPendingBytes + 77) text += run;
    text += " earth";
    const std::vector<TextToken> whole = Whole(*tokenizer, text);
    EXPECT_EQ(whole.back().id, kEarth);
    EXPECT_EQ(Streamed(*tokenizer, text, random, 300), whole);
    EXPECT_EQ(Streamed(*tokenizer, text, random, 9000), whole);
  }
}

TEST(WordTokenizerTest, PythonsWhiteSpaceEndsWords) {
  for (const char* space : {" ", "\t", "\x0b", "\x0c", "\r", "\x1c", "\xc2\x85",
                            "\xc2\xa0", "\xe2\x80\xa8", "\xe3\x80\x80"}) {
    EXPECT_THAT(Ids(Whole(*Made(), absl::StrCat("the", space, "earth"))),
                ElementsAre(kThe, kEarth));
  }
  EXPECT_THAT(Ids(Whole(*Made(), "the\xe2\x80\x8b")), ElementsAre(kUnk));
}

TEST(WordTokenizerTest, LowerCaseIsMadeWhereItIsAskedFor) {
  EXPECT_THAT(Ids(Whole(*Made(true),
                        "THE STRASSE STRA\xe1\xba\x9e"
                        "E The")),
              ElementsAre(kThe, kUnk, kStreet, kThe));
}

TEST(WordTokenizerTest, DecodePutsSpacesBeforeWordsAndEndsLines) {
  const auto tokenizer = Made();
  std::string text;
  for (const TextToken& token : Whole(*tokenizer, "the  earth\n\n= sea")) {
    text += tokenizer->Decode(token.id);
  }
  EXPECT_EQ(text, " the earth\n\n = <unk>");
  EXPECT_EQ(tokenizer->prefix(), " ");
  for (const int32_t token : {9, 10, -1}) {
    EXPECT_EQ(tokenizer->Decode(token), "") << token;
  }
}

TEST(WordTokenizerTest, SaysWhatAModelMaySay) {
  const auto tokenizer = Made();
  EXPECT_THAT(tokenizer->sayable(), ElementsAre(1, 0, 1, 1, 1, 1, 1, 1, 1, 0));
  EXPECT_FALSE(tokenizer->bos().has_value());
}

TEST(WordTokenizerTest, RefusesFilesThatAreNoVocabulary) {
  const auto refused = [](const std::string& file, const std::string& what) {
    EXPECT_THAT(MakeWordTokenizer(file, {.vocab_size = 4}),
                Fails(kInvalid, what));
  };
  refused("", "vocab.txt: 0 words without special ones, want <eos> on a line");
  refused("<eos>\nthe", "want <unk> or <UNK> on a line");
  refused("<eos>\n\nthe", "line 2 is empty, want a word");
  refused("<eos>\n<unk>\nthe\nthe", "line 4 is \"the\", as is line 3");
  refused("<eos>\n<unk>\na\nb\nc", "more than 4 lines");
  refused("<eos>\n\xff", "line 2 is \"\\xff\", want UTF-8");
}

}  // namespace
}  // namespace mneme
