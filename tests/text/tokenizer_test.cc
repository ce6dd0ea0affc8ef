// SPDX-License-Identifier: Apache-2.0
#include "engine/text/tokenizer.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string AllBytes() {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) {
    bytes.push_back(static_cast<char>(byte));
  }
  return bytes;
}

TEST(ByteTokenizerTest, EveryByteIsItsOwnToken) {
  const auto tokenizer = MakeByteTokenizer({});
  EXPECT_EQ(tokenizer->kind(), "bytes");
  EXPECT_FALSE(tokenizer->utf8());
  std::vector<TextToken> tokens;
  EXPECT_EQ(tokenizer->EncodeFront(AllBytes(), {}, SIZE_MAX, tokens), 256);
  ASSERT_EQ(tokens.size(), 256u);
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(tokens[byte], (TextToken{byte, 1}));
  }
}

TEST(ByteTokenizerTest, DecodingGivesTheBytesBack) {
  const auto tokenizer = MakeByteTokenizer({.vocab_size = 264});
  std::vector<TextToken> tokens;
  tokenizer->EncodeFront(AllBytes(), {}, SIZE_MAX, tokens);
  std::string text;
  for (const TextToken& token : tokens) text += tokenizer->Decode(token.id);
  EXPECT_EQ(text, AllBytes());
}

TEST(ByteTokenizerTest, EncodeFrontAppendsUntilThereAreEnough) {
  const auto tokenizer = MakeByteTokenizer({});
  std::vector<TextToken> tokens = {{'x', 1}};
  EXPECT_EQ(tokenizer->EncodeFront("caf\xc3\xa9", {}, 3, tokens), 2);
  EXPECT_THAT(tokens, ElementsAre(TextToken{'x', 1}, TextToken{'c', 1},
                                  TextToken{'a', 1}));
  EXPECT_EQ(tokenizer->EncodeFront("f\xc3\xa9", {}, 3, tokens), 0);
  EXPECT_EQ(tokenizer->EncodeFront("f\xc3\xa9", {}, SIZE_MAX, tokens), 3);
}

TEST(ByteTokenizerTest, ControlTokensAndForeignIdsStandForNoBytes) {
  const auto tokenizer =
      MakeByteTokenizer({.vocab_size = 264, .bos = 256, .eos = {259}});
  for (const int32_t token : {256, 259, 263, 264, 1 << 20, -1, INT32_MIN}) {
    EXPECT_EQ(tokenizer->Decode(token), "") << token;
  }
}

TEST(ByteTokenizerTest, KnowsItsBeginAndEndTokens) {
  const auto tokenizer =
      MakeByteTokenizer({.vocab_size = 264, .bos = 256, .eos = {259, 260}});
  EXPECT_EQ(tokenizer->bos(), 256);
  EXPECT_THAT(tokenizer->eos(), ElementsAre(259, 260));
  EXPECT_FALSE(MakeByteTokenizer({})->bos().has_value());
  EXPECT_THAT(MakeByteTokenizer({})->eos(), IsEmpty());
}

TEST(ByteTokenizerTest, BytesAndEndTokensCanBeSaidAndNothingElse) {
  const auto tokenizer =
      MakeByteTokenizer({.vocab_size = 264, .bos = 256, .eos = {259, 263}});
  ASSERT_EQ(tokenizer->sayable().size(), 264u);
  for (int32_t token = 0; token < 264; ++token) {
    const bool sayable = token < 256 || token == 259 || token == 263;
    EXPECT_EQ(tokenizer->sayable()[token], sayable ? 1 : 0) << token;
  }
}

}  // namespace
}  // namespace mneme
