// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/input_queue.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/runtime/history.h"
#include "engine/text/sentencepiece_tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_sentencepiece.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ServedModel Merging() {
  ServedModel model;
  model.tokenizer = *MakeSentencePieceTokenizer(
      TinySentencePieceModel(), {.vocab_size = kTinyVocabSize, .bos = 1});
  return model;
}

ServedModel Bytes() {
  ServedModel model;
  model.tokenizer = MakeByteTokenizer({});
  return model;
}

// Everything that comes out; the bytes of each token.
std::vector<std::string> TakeAll(InputQueue& queue, bool ends) {
  std::vector<std::string> taken;
  while (const auto token = queue.Next(/*begins=*/false, ends)) {
    taken.emplace_back(token->bytes);
  }
  return taken;
}

TEST(InputQueueTest, BytesNeverWait) {
  const ServedModel model = Bytes();
  InputQueue queue(&model, SessionUnit::kText);
  EXPECT_TRUE(queue.idle());
  queue.Append("a\xff");
  EXPECT_FALSE(queue.idle());
  EXPECT_THAT(TakeAll(queue, false), ElementsAre("a", "\xff"));
  EXPECT_TRUE(queue.idle());
  EXPECT_EQ(queue.size(), 0);
  EXPECT_THAT(queue.CheckText("\xff\xff", "f"), IsOk());
  EXPECT_FALSE(queue.cut());
}

TEST(InputQueueTest, TokensAreTheirIds) {
  const ServedModel model;
  InputQueue queue(&model, SessionUnit::kTokens);
  queue.Append(TokenBytes({7, 70000}));
  EXPECT_EQ(queue.Next(false, false)->id, 7);
  EXPECT_FALSE(queue.idle());
  EXPECT_EQ(queue.Next(false, false)->id, 70000);
  EXPECT_FALSE(queue.Next(false, false).has_value());
  EXPECT_TRUE(queue.idle());
}

TEST(InputQueueTest, TextWaitsForWhatDecides) {
  const ServedModel model = Merging();
  InputQueue queue(&model, SessionUnit::kText);
  queue.Append("the wor");
  EXPECT_THAT(TakeAll(queue, false), ElementsAre("the"));
  EXPECT_TRUE(queue.idle());
  EXPECT_EQ(queue.bytes(), " wor");
  queue.Append("d ");
  EXPECT_FALSE(queue.idle());
  EXPECT_THAT(TakeAll(queue, false), ElementsAre(" word"));
  EXPECT_EQ(queue.bytes(), " ");
  EXPECT_THAT(TakeAll(queue, true), ElementsAre(" "));
  EXPECT_EQ(queue.size(), 0);
}

TEST(InputQueueTest, ACharacterThatIsCutOffWaitsBeyondTheEnd) {
  const ServedModel model = Merging();
  InputQueue queue(&model, SessionUnit::kText);
  queue.Append("a\xf0\x9f");
  EXPECT_TRUE(queue.cut());
  EXPECT_THAT(TakeAll(queue, true), ElementsAre("a"));
  EXPECT_TRUE(queue.idle());
  EXPECT_EQ(queue.bytes(), "\xf0\x9f");
  queue.Append("\x98\x80");
  EXPECT_FALSE(queue.cut());
  EXPECT_THAT(TakeAll(queue, true),
              ElementsAre("\xf0", "\x9f", "\x98", "\x80"));
}

TEST(InputQueueTest, TextHasToGoOnWhereTheLastOneEnded) {
  const ServedModel model = Merging();
  InputQueue queue(&model, SessionUnit::kText);
  EXPECT_THAT(queue.CheckText("a \xf0\x9f", "f"), IsOk());
  queue.Append("a \xf0");
  EXPECT_THAT(queue.CheckText("\x9f", "f"), IsOk());
  EXPECT_THAT(queue.CheckText("\x9f\x98\x80 b", "f"), IsOk());
  const struct {
    std::string text;
    std::string found;
  } kBad[] = {{"b", "f: found a character broken off at byte 100"},
              {"\x9f\x98 ", "found a character broken off at byte 102"},
              {"\x9f\x98\x80\x80", "found 0x80 at byte 103, wanted UTF-8"},
              {"\x9f\x98\x80 \xc0", "found 0xc0 at byte 104"}};
  for (const auto& bad : kBad) {
    const absl::Status status = queue.CheckText(bad.text, "f", 100);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.found));
  }
}

TEST(InputQueueTest, ARunMayGiveMoreTokensThanAreTakenAtATime) {
  const ServedModel model = Merging();
  InputQueue queue(&model, SessionUnit::kText);
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "aaaa aa a";
  queue.Append(text);
  std::string taken;
  int64_t last = queue.size();
  while (const auto token = queue.Next(false, true)) {
    taken += token->bytes;
    // What is taken leaves the queue with the token.
    EXPECT_EQ(queue.size(), last - static_cast<int64_t>(token->bytes.size()));
    last = queue.size();
  }
  EXPECT_EQ(taken, text);
}

}  // namespace
}  // namespace mneme
