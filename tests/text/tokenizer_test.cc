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
  std::vector<int32_t> tokens;
  tokenizer->Encode(AllBytes(), tokens);
  ASSERT_EQ(tokens.size(), 256u);
  for (int byte = 0; byte < 256; ++byte) EXPECT_EQ(tokens[byte], byte);
}

TEST(ByteTokenizerTest, DecodingGivesTheBytesBack) {
  const auto tokenizer = MakeByteTokenizer({.vocab_size = 264});
  std::vector<int32_t> tokens;
  tokenizer->Encode(AllBytes(), tokens);
  std::string text;
  for (const int32_t token : tokens) text += tokenizer->Decode(token);
  EXPECT_EQ(text, AllBytes());
}

TEST(ByteTokenizerTest, EncodeAppendsAndAnyCutGivesTheTokensOfTheWhole) {
  const auto tokenizer = MakeByteTokenizer({});
  const std::string text = "caf\xc3\xa9 \xe2\x82\xac";
  std::vector<int32_t> whole;
  tokenizer->Encode(text, whole);
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    std::vector<int32_t> pieces;
    tokenizer->Encode(text.substr(0, cut), pieces);
    tokenizer->Encode(text.substr(cut), pieces);
    EXPECT_EQ(pieces, whole) << "cut at " << cut;
  }
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
