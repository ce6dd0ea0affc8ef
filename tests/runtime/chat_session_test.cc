// SPDX-License-Identifier: Apache-2.0
//
// Turns of conversations in text sessions: what the template puts between them
// is in the state, and in no offset.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

struct Turn {
  std::string role;
  std::string text;
  bool ends = true;
};

class ChatSessionTest : public testing::Test {
 protected:
  void SetUp() override {
    engine_ = *Engine::Create({.threads = 1});
    // With <|im_start|> and <|im_end|>, behind a normalizer.
    Load("m", "qwen");
    ASSERT_EQ(engine_->GetModel("m")->chat_template, "chatml");
    start_ = Control("<|im_start|>");
    end_ = Control("<|im_end|>");
  }

  void Load(const std::string& name, const std::string& kind) {
    tokenizer_json_ = ReadFile(
        absl::StrCat(MNEME_TEST_DATA, "/tokenizers/", kind, "/tokenizer.json"));
    ModelConfig config = *PresetConfig("ttt-linear-tiny");
    config.vocab_size = 1536;
    config.tokenizer = "huggingface";
    config.bos_token = 1;
    config.eos_tokens = {2};
    ASSERT_THAT(WriteRandomModel(config, 1, dir_.path()), IsOk());
    WriteFile(dir_.File("tokenizer.json"), tokenizer_json_);
    ASSERT_THAT(engine_->LoadModel(name, dir_.path()), IsOk());
  }
  // The id that the file gives a name: {"id":903,"content":"<|im_end|>"...
  int32_t Control(const std::string& name) const {
    const size_t at =
        tokenizer_json_.find(absl::StrCat(",\"content\":\"", name, "\""));
    const size_t id = tokenizer_json_.rfind(':', at);
    return std::stoi(tokenizer_json_.substr(id + 1));
  }

  void Create(const std::string& id, SessionUnit unit = SessionUnit::kText) {
    ASSERT_THAT(engine_->CreateSession({.id = id, .model = "m", .unit = unit}),
                IsOk());
  }
  // Appends turns, cut into segments of `bytes`.
  absl::Status Say(const std::string& id, const std::vector<Turn>& turns,
                   size_t bytes = SIZE_MAX) {
    ProgressWaiter waiter;
    auto stream = engine_->OpenAppend({.session = id}, &waiter);
    if (!stream.ok()) return stream.status();
    int64_t offset = (*stream)->opened().next_offset;
    for (const Turn& turn : turns) {
      for (size_t at = 0; at < turn.text.size();) {
        const size_t piece = std::min(bytes, turn.text.size() - at);
        const auto taken = (*stream)->Write(
            {.offset = offset,
             .payload = turn.text.substr(at, piece),
             .role = turn.role,
             .end_of_turn = turn.ends && at + piece == turn.text.size()});
        if (!taken.ok()) return taken.status();
        if (taken->offer == Offer::kLater) {
          EXPECT_TRUE(waiter.Wait());
          continue;
        }
        at += piece;
        offset += static_cast<int64_t>(piece);
      }
    }
    while (!(*stream)->progress().idle) EXPECT_TRUE(waiter.Wait());
    return absl::OkStatus();
  }

  // The ids of a text by itself, behind `ids`.
  void AddText(const std::string& text, std::vector<int32_t>& ids) const {
    const auto tokens = engine_->Tokenize("m", text);
    ASSERT_THAT(tokens, IsOk());
    for (const TextToken& token : *tokens) ids.push_back(token.id);
  }
  // "<|im_start|>user\n..." up to what its end is.
  std::vector<int32_t> TurnIds(const std::string& role_and_text) const {
    std::vector<int32_t> ids = {start_};
    AddText(role_and_text, ids);
    return ids;
  }
  TempDir dir_;
  std::unique_ptr<Engine> engine_;
  std::string tokenizer_json_;
  int32_t start_ = 0;
  int32_t end_ = 0;
};

TEST_F(ChatSessionTest, TurnsStandBetweenControlTokens) {
  std::vector<int32_t> line_end = {end_};
  AddText("\n", line_end);
  std::vector<int32_t> ids;
  for (const auto& part : {TurnIds("system\nBe brief."), line_end,
                           TurnIds("user\n<|im_end|> e\xcc\x81 x"), line_end,
                           TurnIds("user\nyes")}) {
    ids.insert(ids.end(), part.begin(), part.end());
  }
  std::string digest;
  for (const size_t bytes : {SIZE_MAX, size_t{1}, size_t{3}}) {
    const std::string id = absl::StrCat("by", bytes);
    Create(id);
    ASSERT_THAT(Say(id,
                    {{"system", "Be brief."},
                     {"user", "<|im_end|> e\xcc\x81 x"},
                     {"user", "yes no", /*ends=*/false}},
                    bytes),
                IsOk());
    const SessionInfo info = *Describe(*engine_, id);
    EXPECT_EQ(info.next_offset, 9 + 16 + 6);
    EXPECT_EQ(info.absorbed_offset, 9 + 16 + 6);
    EXPECT_EQ(info.pending_bytes, 3);  // " no"
    EXPECT_EQ(info.position, static_cast<int64_t>(ids.size()));
    if (digest.empty()) digest = info.state_digest;
    EXPECT_EQ(info.state_digest, digest);
  }
}

TEST_F(ChatSessionTest, AnAskBeginsTheAssistantsTurn) {
  Create("text");
  std::vector<int32_t> reply_begins = {end_};
  AddText("\n", reply_begins);
  const std::vector<int32_t> header = TurnIds("assistant\n");
  reply_begins.insert(reply_begins.end(), header.begin(), header.end());
  std::vector<int32_t> expected = TurnIds("user\nHello");
  expected.insert(expected.end(), reply_begins.begin(), reply_begins.end());
  // A token that text can be made of: to tokens alone, others can be said too.
  std::vector<int32_t> letter;
  AddText("a", letter);
  const SamplingOptions greedy = {.temperature = 0,
                                  .logit_bias = {{letter[0], 100.0f}}};
  for (const bool commit : {false, true}) {
    const auto said = GenerateAll(*engine_, {.session = "text",
                                             .prompt = std::string("Hello"),
                                             .max_tokens = 3,
                                             .sampling = greedy,
                                             .ignore_eos = true,
                                             .logprobs = true,
                                             .commit = commit,
                                             .role = "user"});
    ASSERT_THAT(said, IsOk());
    EXPECT_EQ(said->started.ask_position,
              static_cast<int64_t>(expected.size()));
    EXPECT_EQ(said->started.offset, 5);
    // The same as of the ids.
    const std::string id = absl::StrCat("tokens", commit);
    Create(id, SessionUnit::kTokens);
    const auto other = GenerateAll(*engine_, {.session = id,
                                              .prompt = expected,
                                              .max_tokens = 3,
                                              .sampling = greedy,
                                              .ignore_eos = true,
                                              .logprobs = true});
    ASSERT_THAT(other, IsOk());
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(said->logprobs[i].token, letter[0]);
      EXPECT_EQ(other->logprobs[i].token, letter[0]);
      EXPECT_EQ(said->logprobs[i].logprob, other->logprobs[i].logprob);
    }
  }
  // The reply was cut short, so its turn is ended before the next.
  ASSERT_THAT(Say("text", {{"user", "x y", /*ends=*/false}}), IsOk());
  std::vector<int32_t> next = {end_};
  AddText("\n", next);
  next.push_back(start_);
  AddText("user\nx", next);
  EXPECT_EQ(Describe(*engine_, "text")->position,
            static_cast<int64_t>(expected.size() + 3 + next.size()));
}

TEST_F(ChatSessionTest, TheModelMayEndItsTurn) {
  Create("s");
  const auto said = GenerateAll(
      *engine_, {.session = "s",
                 .prompt = std::string("Hello"),
                 .max_tokens = 5,
                 .sampling = {.temperature = 0, .logit_bias = {{end_, 100.0f}}},
                 .role = "user"});
  ASSERT_THAT(said, IsOk());
  EXPECT_EQ(said->finished.reason, FinishReason::kStop);
  EXPECT_EQ(said->finished.stop_token, end_);
  EXPECT_EQ(said->text, "");
  const int64_t position = Describe(*engine_, "s")->position;
  ASSERT_THAT(Say("s", {{"user", "x y", /*ends=*/false}}), IsOk());
  // The end is not said twice.
  std::vector<int32_t> next;
  AddText("\n", next);
  next.push_back(start_);
  AddText("user\nx", next);
  EXPECT_EQ(Describe(*engine_, "s")->position,
            position + static_cast<int64_t>(next.size()));
}

// Text that nobody said is what it was, and so is an answer to it.
TEST_F(ChatSessionTest, WithoutRolesThereAreNoTurns) {
  Create("s");
  ASSERT_THAT(Say("s", {{"", "the x "}}), IsOk());
  std::vector<int32_t> ids;
  AddText("the", ids);
  EXPECT_EQ(Describe(*engine_, "s")->position,
            static_cast<int64_t>(ids.size()));
  const auto said = GenerateAll(*engine_, {.session = "s", .max_tokens = 1});
  ASSERT_THAT(said, IsOk());
  AddText(" x ", ids);
  EXPECT_EQ(said->started.ask_position, static_cast<int64_t>(ids.size()));
}

// What the template puts there would break the character for good.
TEST_F(ChatSessionTest, AnAnswerDoesNotBeginInsideACharacter) {
  Create("s");
  ASSERT_THAT(Say("s", {{"user", "caf\xc3", /*ends=*/false}}), IsOk());
  EXPECT_THAT(GenerateAll(*engine_, {.session = "s", .max_tokens = 1}),
              Fails(kInvalid, "an answer that begins inside a character"));
  EXPECT_THAT(GenerateAll(*engine_, {.session = "s",
                                     .prompt = std::string("\xa9 \xc3"),
                                     .max_tokens = 1}),
              Fails(kInvalid, "an answer that begins inside a character"));
  EXPECT_THAT(GenerateAll(*engine_, {.session = "s",
                                     .prompt = std::string("\xa9"),
                                     .max_tokens = 1}),
              IsOk());
  EXPECT_EQ(Describe(*engine_, "s")->pending_bytes, 0);
}

TEST_F(ChatSessionTest, TurnsEndWithWholeCharacters) {
  Create("s");
  EXPECT_THAT(Say("s", {{"user", "a\xf0\x9f"}}),
              Fails(kInvalid, "a turn that ends inside a character"));
  EXPECT_EQ(Describe(*engine_, "s")->next_offset, 0);
  ASSERT_THAT(Say("s", {{"user", "a\xf0\x9f", /*ends=*/false}}), IsOk());
  EXPECT_THAT(Say("s", {{"system", "b"}}), Fails(kInvalid, "wanted"));
  EXPECT_THAT(Say("s", {{"user", "\x98"}}),
              Fails(kInvalid, "a turn that ends inside a character"));
  ASSERT_THAT(Say("s", {{"user", "\x98\x80"}}), IsOk());
  EXPECT_EQ(Describe(*engine_, "s")->next_offset, 5);
}

TEST_F(ChatSessionTest, RefusesRolesThatTheTemplateDoesNotHave) {
  Create("s");
  EXPECT_THAT(Say("s", {{"<|im_start|>", "a"}}),
              Fails(kInvalid, "role is \"<|im_start|>\""));
  EXPECT_THAT(GenerateAll(*engine_, {.session = "s",
                                     .prompt = std::string("a"),
                                     .max_tokens = 1,
                                     .role = "a b"})
                  .status(),
              Fails(kInvalid, "role is \"a b\""));
  EXPECT_EQ(Describe(*engine_, "s")->next_offset, 0);
}

TEST_F(ChatSessionTest, AResetForgetsTheTurns) {
  Create("s");
  ASSERT_THAT(Say("s", {{"user", "a b", /*ends=*/false}}), IsOk());
  const std::string before = Describe(*engine_, "s")->state_digest;
  ASSERT_THAT(Reset(*engine_, {.session = "s"}), IsOk());
  ASSERT_THAT(Say("s", {{"user", "a b", /*ends=*/false}}), IsOk());
  EXPECT_EQ(Describe(*engine_, "s")->state_digest, before);
}

}  // namespace
}  // namespace mneme
