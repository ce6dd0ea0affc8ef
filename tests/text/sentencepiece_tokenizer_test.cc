// SPDX-License-Identifier: Apache-2.0
#include "engine/text/sentencepiece_tokenizer.h"

#include <cstdio>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/text/sentencepiece_oracle.h"
#include "tests/text/streaming.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kByteFallback[] =
    "--vocab_size=4000 --character_coverage=0.9995 --byte_fallback=true";
// Its characters end at those of the training text.
constexpr char kUnknowns[] = "--vocab_size=1000 --character_coverage=0.99";
constexpr char kUserDefined[] =
    "--vocab_size=1200 --byte_fallback=true --add_dummy_prefix=false "
    "--user_defined_symbols=<im>,<image>,ab,bab,the";

// The first books of the Bible, a verse a line: Debian's package bible-kjv.
const std::vector<std::string>& Verses() {
  static const auto* const verses = [] {
    std::string text;
    FILE* const pipe = popen("bible -f gen1:1-num36:13", "r");
    char buffer[4096];
    for (size_t n = 0; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) {
      text.append(buffer, n);
    }
    EXPECT_EQ(pclose(pipe), 0) << "the tests need Debian's package bible-kjv";
    return new std::vector<std::string>(
        absl::StrSplit(text, '\n', absl::SkipEmpty()));
  }();
  return *verses;
}

// Other scripts, which merge without spaces between words.
const std::vector<std::string>& OtherLines() {
  static const auto* const lines = new std::vector<std::string>{
      "Übung macht den Meister; größer, schöner, weiß.",
      "Ελλάδα και η γλώσσα των θεών, αρχή και τέλος",
      "в начале было слово, и слово было у бога",
      "天地玄黄宇宙洪荒日月盈昃辰宿列張寒來暑往秋收冬藏",
      "いろはにほへとちりぬるをわかよたれそつねならむ",
      "for (int i = 0; i < n; ++i) { total += x[i] * y[i]; }\treturn total;"};
  return *lines;
}

const std::string& Model(const std::string& flags) {
  static auto* const models = new std::map<std::string, std::string>;
  std::string& model = (*models)[flags];
  if (model.empty()) {
    std::vector<std::string> lines = Verses();
    for (int i = 0; i < 20; ++i) {
      lines.insert(lines.end(), OtherLines().begin(), OtherLines().end());
    }
    model = SentencePieceOracle::Train(lines, flags);
  }
  return model;
}

std::unique_ptr<const Tokenizer> Make(const std::string& flags) {
  auto made = MakeSentencePieceTokenizer(
      Model(flags), {.vocab_size = 4096, .bos = 1, .eos = {2}});
  EXPECT_THAT(made, IsOk());
  return *std::move(made);
}

std::string Utf8(char32_t c) {
  std::string text;
  AppendUtf8(c, text);
  return text;
}

// What people write, what they write by mistake, and what nobody writes.
std::string RandomText(std::mt19937& random) {
  const std::vector<std::string> odd = {
      " ",
      "  ",
      "     ",
      "\n",
      "\t",
      "\xe2\x96\x81",
      "\xe2\x96\x81 ",
      "<s>",
      "</s>",
      "<unk>",
      "<0x0A>",
      "<im>",
      "<image>",
      "babab",
      "ab",
      std::string(1, '\0'),
      "e\xcc\x81",
      "\xef\xbb\xbf",
      "1234567890",
      "\xf0\x9f\x98\x80\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x94\xac"};
  std::string text;
  const int parts = 1 + static_cast<int>(random() % 12);
  for (int i = 0; i < parts; ++i) {
    switch (random() % 6) {
      case 0:
      case 1:
        text += Verses()[random() % Verses().size()];
        break;
      case 2:
        text += OtherLines()[random() % OtherLines().size()];
        break;
      case 3:
        text += odd[random() % odd.size()];
        break;
      case 4:
        for (int n = 0; n < 20; ++n) {
          char32_t c = random() % (random() % 2 == 0 ? 0x3000 : 0x110000);
          if (c >= 0xd800 && c < 0xe000) c = 'x';
          text += Utf8(c);
        }
        break;
      default:
        text += std::string(1 + random() % 30, "aeno t"[random() % 6]);
    }
  }
  return text;
}

class SentencePieceTest : public testing::TestWithParam<const char*> {};

// 2,000 texts, shared between the models.
TEST_P(SentencePieceTest, StreamedTextIsTheLibrarysWholeText) {
  const auto tokenizer = Make(GetParam());
  const SentencePieceOracle oracle(Model(GetParam()));
  std::mt19937 random(7);
  for (int i = 0; i < 700; ++i) {
    const std::string text = RandomText(random);
    const std::vector<TextToken> streamed =
        Streamed(*tokenizer, text, random, i % 3 == 0 ? 3 : 200);
    ASSERT_EQ(Ids(streamed), oracle.Encode(text)) << text;
    ASSERT_EQ(streamed, Whole(*tokenizer, text)) << text;
    const int64_t bytes = std::accumulate(
        streamed.begin(), streamed.end(), int64_t{0},
        [](int64_t sum, const TextToken& t) { return sum + t.bytes; });
    ASSERT_EQ(bytes, static_cast<int64_t>(text.size())) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SentencePieceTest,
                         testing::Values(kByteFallback, kUnknowns,
                                         kUserDefined));

TEST(SentencePieceTokenizerTest, TokensDecodeToTheTextAndItsPrefix) {
  const auto tokenizer = Make(kByteFallback);
  std::mt19937 random(8);
  for (int i = 0; i < 200; ++i) {
    std::string text = RandomText(random);
    std::string decoded;
    for (const TextToken& token : Whole(*tokenizer, text)) {
      decoded += tokenizer->Decode(token.id);
    }
    for (size_t at = 0; (at = text.find("\xe2\x96\x81", at)) != text.npos;) {
      text.replace(at, 3, " ");  // pieces can not tell it from a space
    }
    ASSERT_EQ(decoded, absl::StrCat(" ", text));
  }
}

TEST(SentencePieceTokenizerTest, EveryTokenSaysItsBytes) {
  const auto tokenizer = Make(kByteFallback);
  for (const TextToken& token : Whole(*tokenizer, "And \xf0\x9f\x98\x80")) {
    if (token.bytes == 0) continue;  // a dummy prefix of its own
    EXPECT_LE(token.bytes, 4);
  }
  // A character that is no piece: a token a byte.
  std::vector<TextToken> tokens;
  tokenizer->EncodeFront("\xf0\x9f\x98\x80", {.begins = false, .ends = true},
                         SIZE_MAX, tokens);
  ASSERT_EQ(tokens.size(), 4u);
  for (const TextToken& token : tokens) EXPECT_EQ(token.bytes, 1);
  EXPECT_EQ(tokenizer->Decode(tokens[0].id), "\xf0");
}

TEST(SentencePieceTokenizerTest, WordsComeOutOnceTheNextOneBegins) {
  const auto tokenizer = Make(kByteFallback);
  std::vector<TextToken> tokens;
  EXPECT_EQ(
      tokenizer->EncodeFront("the earth", {.begins = true}, SIZE_MAX, tokens),
      3);
  EXPECT_EQ(tokenizer->EncodeFront(" earth", {}, SIZE_MAX, tokens), 0);
  EXPECT_EQ(tokenizer->EncodeFront(" earth ", {}, SIZE_MAX, tokens), 6);
}

TEST(SentencePieceTokenizerTest, ACharacterThatIsCutOffWaitsEvenAtTheEnd) {
  const auto tokenizer = Make(kByteFallback);
  std::vector<TextToken> tokens;
  EXPECT_EQ(
      tokenizer->EncodeFront("x\xf0\x9f\x98", {.ends = true}, SIZE_MAX, tokens),
      1);
  EXPECT_EQ(
      tokenizer->EncodeFront("\xf0\x9f\x98", {.ends = true}, SIZE_MAX, tokens),
      0);
}

// "a" and "a" merge: a run of them has no place to cut it.
TEST(SentencePieceTokenizerTest, RunsAreCutWhereverTheirPiecesComeFrom) {
  const auto tokenizer = Make(kByteFallback);
  std::mt19937 random(9);
  std::string text(3 * Tokenizer::kMaxPendingBytes + 17, ' ');
  text.insert(20000, "\xe2\x96\x81");
  const std::vector<TextToken> whole = Whole(*tokenizer, text);
  EXPECT_EQ(Streamed(*tokenizer, text, random, 1), whole);
  EXPECT_EQ(Streamed(*tokenizer, text, random, 5000), whole);
  // Cut after every 8 KiB, each part is as if it were alone.
  int64_t bytes = 0;
  bool cut = false;
  for (const TextToken& token : whole) {
    bytes += token.bytes;
    cut = cut || bytes == Tokenizer::kMaxPendingBytes;
  }
  EXPECT_TRUE(cut);
}

TEST(SentencePieceTokenizerTest, ControlTokensAreNeverReadFromText) {
  const auto tokenizer = Make(kByteFallback);
  for (const char* text : {"<s>", "</s>", "<unk>", "<0x0A>"}) {
    for (const TextToken& token : Whole(*tokenizer, text)) {
      EXPECT_GT(token.id, 2) << text;
      EXPECT_NE(tokenizer->Decode(token.id), "") << text;
    }
  }
}

TEST(SentencePieceTokenizerTest, SaysWhatAModelMaySay) {
  const auto tokenizer = Make(kByteFallback);
  const auto sayable = tokenizer->sayable();
  ASSERT_EQ(sayable.size(), 4096u);
  EXPECT_EQ(sayable[0], 0);     // unknown
  EXPECT_EQ(sayable[1], 0);     // the beginning of a text
  EXPECT_EQ(sayable[2], 1);     // its end
  EXPECT_EQ(sayable[3], 1);     // a byte
  EXPECT_EQ(sayable[3999], 1);  // a piece
  EXPECT_EQ(sayable[4000], 0);  // nothing
  EXPECT_EQ(tokenizer->Decode(2), "");
  EXPECT_EQ(tokenizer->Decode(4000), "");
  EXPECT_EQ(tokenizer->Decode(-1), "");
  EXPECT_EQ(*tokenizer->bos(), 1);
  EXPECT_THAT(tokenizer->eos(), ElementsAre(2));
}

void ExpectRefused(const std::string& file, const std::string& what,
                   int64_t vocab_size = 4096) {
  const auto made =
      MakeSentencePieceTokenizer(file, {.vocab_size = vocab_size});
  ASSERT_FALSE(made.ok()) << what;
  EXPECT_THAT(std::string(made.status().message()), HasSubstr(what));
}

TEST(SentencePieceTokenizerTest, RefusesOtherKindsOfModelsByName) {
  ExpectRefused(SentencePieceOracle::Train(
                    Verses(), "--vocab_size=500 --model_type=unigram"),
                "model_type is 1, want 2 (BPE)");
  ExpectRefused(
      SentencePieceOracle::Train(
          Verses(), "--vocab_size=500 --remove_extra_whitespaces=true"),
      "remove_extra_whitespaces is true, want false");
  ExpectRefused(
      SentencePieceOracle::Train(
          Verses(), "--vocab_size=500 --normalization_rule_name=nmt_nfkc"),
      "the normalizer is \"nmt_nfkc\"");
  ExpectRefused(
      SentencePieceOracle::Train(
          Verses(), "--vocab_size=500 --treat_whitespace_as_suffix=true"),
      "treat_whitespace_as_suffix is true, want false");
  ExpectRefused(Model(kByteFallback),
                "4000 pieces, want at most 3999, config.json's", 3999);
}

TEST(SentencePieceTokenizerTest, DamagedFilesAreRefusedOrHarmless) {
  const std::string& good = Model(kUnknowns);
  ExpectRefused("", "no pieces");
  ExpectRefused("version https://git-lfs.github.com/spec/v1\n", "tokenizer");
  for (size_t size = 1; size < good.size(); size += 1 + size / 50) {
    const auto made =
        MakeSentencePieceTokenizer(good.substr(0, size), {.vocab_size = 4096});
    EXPECT_FALSE(made.ok()) << size;
  }
  std::mt19937 random(10);
  for (int i = 0; i < 300; ++i) {
    std::string bad = good;
    for (int n = 0; n < 4; ++n) {
      bad[random() % bad.size()] = static_cast<char>(random());
    }
    const auto made = MakeSentencePieceTokenizer(bad, {.vocab_size = 4096});
    if (made.ok()) Whole(**made, Verses()[0]);
  }
}

}  // namespace
}  // namespace mneme
