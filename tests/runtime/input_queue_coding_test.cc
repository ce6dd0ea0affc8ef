// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <vector>

#include "engine/base/coding.h"
#include "engine/runtime/history.h"
#include "engine/runtime/input_queue.h"
#include "engine/text/sentencepiece_tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_sentencepiece.h"

namespace mneme {
namespace {

using absl::StatusCode;

// Merges, and needs UTF-8.
ServedModel Merging() {
  ServedModel model;
  model.tokenizer = *MakeSentencePieceTokenizer(
      TinySentencePieceModel(), {.vocab_size = kTinyVocabSize, .bos = 1});
  model.chat = *MakeChatTemplate("plain", {}, *model.tokenizer);
  return model;
}

// Turns are set apart by control tokens.
ServedModel Controlled() {
  ServedModel model;
  model.tokenizer = MakeByteTokenizer({.vocab_size = 260, .eos = {258}});
  model.chat = *MakeChatTemplate("tokens", {.user = 256, .assistant = 257},
                                 *model.tokenizer);
  return model;
}

std::string Encoded(const InputQueue& queue) {
  std::string bytes;
  queue.Encode(bytes);
  return bytes;
}

struct Taken {
  int32_t id;
  std::string bytes;
  bool operator==(const Taken&) const = default;
};

std::vector<Taken> TakeAll(InputQueue& queue) {
  std::vector<Taken> taken;
  while (const auto token = queue.Next(/*begins=*/false, /*ends=*/false)) {
    taken.push_back({token->id, std::string(token->bytes)});
  }
  return taken;
}

// `queue` and what is decoded of it go on alike.
void ExpectTheSame(InputQueue queue, const ServedModel& model,
                   SessionUnit unit) {
  const std::string bytes = Encoded(queue);
  InputQueue decoded(&model, unit);
  decoded.Append(unit == SessionUnit::kText ? "what was there" : "1234");
  ASSERT_THAT(decoded.Decode(bytes), IsOk());
  EXPECT_EQ(Encoded(decoded), bytes);
  EXPECT_EQ(decoded.size(), queue.size());
  EXPECT_EQ(decoded.held_bytes(), queue.held_bytes());
  EXPECT_EQ(decoded.idle(), queue.idle());
  EXPECT_EQ(decoded.cut(), queue.cut());
  for (InputQueue* one : {&queue, &decoded}) {
    if (unit == SessionUnit::kTokens) {
      one->Append(TokenBytes({5, 6}));
    } else if (!one->cut()) {
      one->Append(" and");
      one->BeginTurn("assistant");
      one->Append("more ");
      one->EndTurn();
    }
  }
  EXPECT_EQ(TakeAll(decoded), TakeAll(queue));
  EXPECT_EQ(Encoded(decoded), Encoded(queue));
}

TEST(InputQueueCodingTest, TextGoesOnWhereverItStands) {
  const ServedModel model = Merging();
  InputQueue queue(&model, SessionUnit::kText);
  ExpectTheSame(queue, model, SessionUnit::kText);
  queue.BeginTurn("user");
  // More tokens than are made at a time, whole characters and one cut off.
  for (int i = 0; i < 100; ++i) queue.Append(" the w\xc3\xb6rd \xe4\xb8\xad");
  queue.Append("\xf0\x9f\x98");
  ExpectTheSame(queue, model, SessionUnit::kText);
  while (queue.Next(false, false).has_value()) {
    ASSERT_NO_FATAL_FAILURE(ExpectTheSame(queue, model, SessionUnit::kText));
  }
  EXPECT_TRUE(queue.idle());
  EXPECT_GT(queue.size(), 0);
  ExpectTheSame(queue, model, SessionUnit::kText);
}

TEST(InputQueueCodingTest, SoDoTurnsBetweenControlTokens) {
  const ServedModel model = Controlled();
  InputQueue queue(&model, SessionUnit::kText);
  queue.AppendPrompt({.bytes = "one", .role = "user"});
  queue.AppendPrompt({.bytes = "two", .role = "user", .asks = true});
  ExpectTheSame(queue, model, SessionUnit::kText);
  while (queue.Next(false, false).has_value()) {
    ASSERT_NO_FATAL_FAILURE(ExpectTheSame(queue, model, SessionUnit::kText));
  }
  queue.NoteSaid(258);
  ExpectTheSame(queue, model, SessionUnit::kText);
}

TEST(InputQueueCodingTest, SoDoTokens) {
  const ServedModel model;
  InputQueue queue(&model, SessionUnit::kTokens);
  ExpectTheSame(queue, model, SessionUnit::kTokens);
  queue.Append(TokenBytes({7, 70000}));
  ExpectTheSame(queue, model, SessionUnit::kTokens);
  queue.Next(false, false);
  ExpectTheSame(queue, model, SessionUnit::kTokens);
}

// -- What is refused ----------------------------------------------------------

// A queue with every kind of thing in it.
InputQueue Full(const ServedModel& model) {
  InputQueue queue(&model, SessionUnit::kText);
  queue.AppendPrompt({.bytes = "one two", .role = "user"});
  queue.Append("three");
  return queue;
}

TEST(InputQueueCodingTest, NoPieceOfAQueueIsOne) {
  const ServedModel model = Controlled();
  const std::string bytes = Encoded(Full(model));
  InputQueue queue(&model, SessionUnit::kText);
  const std::string cleared = Encoded(queue);
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_THAT(queue.Decode(bytes.substr(0, size)),
                Fails(StatusCode::kDataLoss, "pending input: "))
        << size;
    ASSERT_EQ(Encoded(queue), cleared);
  }
  EXPECT_THAT(queue.Decode(bytes + '\0'), Fails(StatusCode::kDataLoss, ""));
}

TEST(InputQueueCodingTest, ABitThatFlipsIsAnErrorOrIsSeen) {
  for (const auto make : {Merging, Controlled}) {
    const ServedModel model = make();
    InputQueue full = Full(model);
    for (int i = 0; i < 3; ++i) full.Next(false, false);
    const std::string bytes = Encoded(full);
    for (size_t at = 0; at < bytes.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        std::string damaged = bytes;
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
        InputQueue queue(&model, SessionUnit::kText);
        if (!queue.Decode(damaged).ok()) continue;
        ASSERT_EQ(Encoded(queue), damaged);
        TakeAll(queue);  // ends
      }
    }
  }
}

TEST(InputQueueCodingTest, TheOtherUnitIsRefused) {
  const ServedModel model = Controlled();
  const std::string bytes = Encoded(InputQueue(&model, SessionUnit::kText));
  InputQueue queue(&model, SessionUnit::kTokens);
  EXPECT_THAT(queue.Decode(bytes),
              Fails(StatusCode::kDataLoss, "the other unit"));
}

TEST(InputQueueCodingTest, TextThatIsNoUtf8IsRefusedWhereItHasToBe) {
  const ServedModel bytes_model = Controlled();
  const ServedModel utf8_model = Merging();
  InputQueue queue(&bytes_model, SessionUnit::kText);
  queue.Append("\xff");
  InputQueue decoded(&utf8_model, SessionUnit::kText);
  EXPECT_THAT(decoded.Decode(Encoded(queue)),
              Fails(StatusCode::kDataLoss, "no UTF-8 at byte 0"));
}

TEST(InputQueueCodingTest, AnIdleQueueHasLittleInIt) {
  const ServedModel model = Controlled();
  InputQueue queue(&model, SessionUnit::kText);
  queue.Append(std::string(InputQueue::kMaxPendingBytes + 1, 'a'));
  std::string bytes = Encoded(queue);
  InputQueue decoded(&model, SessionUnit::kText);
  EXPECT_THAT(decoded.Decode(bytes), IsOk());
  // Behind the text, the empty role, and three flags.
  bytes[1 + 8 + queue.size() + 8 + 3] = 1;
  EXPECT_THAT(decoded.Decode(bytes),
              Fails(StatusCode::kDataLoss, "more than can be pending"));
}

TEST(InputQueueCodingTest, ConversationsWantATemplate) {
  const ServedModel model = Controlled();
  ServedModel bare = Controlled();
  bare.chat = nullptr;
  InputQueue decoded(&bare, SessionUnit::kText);
  EXPECT_THAT(decoded.Decode(Encoded(Full(model))),
              Fails(StatusCode::kDataLoss, "without a chat template"));
  const ServedModel plain = Merging();
  InputQueue queue(&plain, SessionUnit::kText);
  queue.BeginTurn("narrator");
  InputQueue tokens(&model, SessionUnit::kText);
  EXPECT_THAT(tokens.Decode(Encoded(queue)),
              Fails(StatusCode::kDataLoss, "an unknown role"));
}

}  // namespace
}  // namespace mneme
