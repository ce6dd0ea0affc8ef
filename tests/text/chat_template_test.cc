// SPDX-License-Identifier: Apache-2.0
#include "engine/text/chat_template.h"

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using nlohmann::json;
using testing::ElementsAre;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Knows the names of control tokens, and no text.
class NamesOnly final : public Tokenizer {
 public:
  explicit NamesOnly(std::vector<std::string> names,
                     std::vector<int32_t> eos = {})
      : names_(std::move(names)), eos_(std::move(eos)) {}

  const std::string& Name(int32_t id) const { return names_.at(id); }

  std::string_view kind() const override { return "names"; }
  bool utf8() const override { return true; }
  int64_t EncodeFront(std::string_view, TextPlace, size_t,
                      std::vector<TextToken>&) const override {
    return 0;
  }
  std::string Decode(int32_t) const override { return ""; }
  std::string_view prefix() const override { return ""; }
  absl::optional<int32_t> bos() const override { return absl::nullopt; }
  absl::Span<const int32_t> eos() const override { return eos_; }
  absl::Span<const uint8_t> sayable() const override { return {}; }
  absl::optional<int32_t> ControlToken(std::string_view name) const override {
    for (size_t id = 0; id < names_.size(); ++id) {
      if (names_[id] == name) return static_cast<int32_t>(id);
    }
    return absl::nullopt;
  }

 private:
  const std::vector<std::string> names_;
  const std::vector<int32_t> eos_;
};

const std::map<std::string, std::vector<std::string>>& Vocabularies() {
  static const auto* const names =
      new std::map<std::string, std::vector<std::string>>{
          {"chatml", {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}},
          {"llama3",
           {"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
            "<|eot_id|>"}},
          {"mistral", {"<unk>", "<s>", "</s>"}},
          {"mistral_v3", {"<unk>", "<s>", "</s>", "[INST]", "[/INST]"}},
          {"plain", {}}};
  return *names;
}

std::unique_ptr<const ChatTemplate> Made(std::string_view kind,
                                         const Tokenizer& tokenizer,
                                         TurnTokens tokens = {}) {
  auto made = MakeChatTemplate(kind, tokens, tokenizer);
  EXPECT_THAT(made, IsOk());
  return *std::move(made);
}

// The pieces as people write them.
std::string Shown(const std::vector<ChatPiece>& pieces,
                  const NamesOnly& tokenizer) {
  std::string text;
  for (const ChatPiece& piece : pieces) {
    text += piece.token.has_value() ? tokenizer.Name(*piece.token) : piece.text;
  }
  return text;
}

// A conversation in which the model says the assistant's turns, or the client.
class Conversation {
 public:
  Conversation(const ChatTemplate& chat, const NamesOnly& tokenizer)
      : chat_(chat), tokenizer_(tokenizer) {}

  void Say(const std::string& role, const std::string& text) {
    EXPECT_THAT(chat_.CheckRole(role), IsOk());
    chat_.BeginTurn(role, place_, pieces_);
    pieces_.push_back({.text = text});
    chat_.EndTurn(place_, pieces_);
    CheckOnlyAppends();
  }
  // `ends`: the model says the token for it.
  void Reply(const std::string& text, bool ends) {
    chat_.BeginReply(place_, pieces_);
    pieces_.push_back({.text = text});
    if (ends && chat_.end().has_value()) {
      pieces_.push_back({.token = chat_.end()});
      chat_.NoteSaid(*chat_.end(), place_);
    }
    CheckOnlyAppends();
  }
  void End() { chat_.EndTurn(place_, pieces_); }
  void AwaitReply() { chat_.BeginReply(place_, pieces_); }

  std::string text() const { return Shown(pieces_, tokenizer_); }

 private:
  void CheckOnlyAppends() {
    EXPECT_TRUE(absl::StartsWith(text(), before_));
    before_ = text();
  }

  const ChatTemplate& chat_;
  const NamesOnly& tokenizer_;
  ChatPlace place_;
  std::vector<ChatPiece> pieces_;
  std::string before_;
};

// tests/golden/chat_templates.json: what transformers makes of conversations
// with the templates that models were published with.
TEST(ChatTemplateTest, TurnsAreRenderedAsModelsOwnTemplatesRenderThemWhole) {
  const auto text =
      ReadSmallFile(MNEME_TEST_DATA "/chat_templates.json", 1 << 20);
  ASSERT_THAT(text, IsOk());
  const json cases = json::parse(*text)["cases"];
  ASSERT_GE(cases.size(), 20u);
  for (const json& one : cases) {
    const auto name = one["template"].get<std::string>();
    const std::string kind = name.substr(0, name.find('_'));
    const NamesOnly tokenizer(Vocabularies().at(name));
    const auto chat = Made(kind, tokenizer);
    EXPECT_EQ(chat->kind(), kind);
    // Turns that the client says, that the model says and ends, and that it
    // leaves without an end.
    for (const int way : {0, 1, 2}) {
      Conversation conversation(*chat, tokenizer);
      for (const json& message : one["messages"]) {
        const auto role = message["role"].get<std::string>();
        auto content = message["content"].get<std::string>();
        if (role != "assistant" || way == 0) {
          conversation.Say(role, content);
        } else {
          // The model's own first token has the space.
          if (name == "mistral_v3") content.insert(0, " ");
          conversation.Reply(content, /*ends=*/way == 1);
        }
      }
      if (one["reply"].get<bool>()) {
        conversation.AwaitReply();
      } else {
        conversation.End();
      }
      EXPECT_EQ(conversation.text(), one["rendered"].get<std::string>())
          << name << " " << way;
    }
  }
}

TEST(ChatTemplateTest, PlainTurnsAreLines) {
  const NamesOnly tokenizer({});
  const auto chat = Made("plain", tokenizer);
  Conversation conversation(*chat, tokenizer);
  conversation.Say("user", "Hello");
  conversation.Reply(" Hi.", true);
  conversation.Say("user", "Bye");
  conversation.AwaitReply();
  EXPECT_EQ(conversation.text(),
            "user: Hello\nassistant: Hi.\nuser: Bye\nassistant:");
  EXPECT_FALSE(chat->end().has_value());
}

TEST(ChatTemplateTest, TokensMayStandForTheTurns) {
  const NamesOnly tokenizer({"<bos>", "<user>", "<assistant>", "<end>"}, {3});
  const auto chat = Made("", tokenizer, {.user = 1, .assistant = 2});
  EXPECT_EQ(chat->kind(), "tokens");
  Conversation conversation(*chat, tokenizer);
  conversation.Say("user", "My name is Ada.");
  conversation.Say("assistant", "OK.");
  conversation.Say("user", "What is my name?");
  conversation.Reply("Your name is Ada.", true);
  conversation.End();
  EXPECT_EQ(conversation.text(),
            "<user>My name is Ada.<assistant>OK.<end>"
            "<user>What is my name?<assistant>Your name is Ada.<end>");
  EXPECT_THAT(chat->CheckRole("system"), Fails(kInvalid, "user or assistant"));
}

TEST(ChatTemplateTest, TheSystemsWordsOpenMistralsNextTurn) {
  const NamesOnly tokenizer(Vocabularies().at("mistral_v3"));
  const auto chat = Made("mistral", tokenizer);
  Conversation conversation(*chat, tokenizer);
  conversation.Say("user", "a");
  conversation.Reply(" b", true);
  conversation.Say("system", "Be brief.");
  conversation.Say("user", "c");
  conversation.AwaitReply();
  EXPECT_EQ(conversation.text(),
            "[INST] a[/INST] b</s>[INST] Be brief.\n\nc[/INST]");
  EXPECT_THAT(chat->CheckRole("tool"), Fails(kInvalid, "user, assistant or"));
}

TEST(ChatTemplateTest, MarkersAreControlTokensAndNotText) {
  const NamesOnly tokenizer(Vocabularies().at("chatml"));
  const auto chat = Made("chatml", tokenizer);
  ChatPlace place;
  std::vector<ChatPiece> pieces;
  chat->BeginTurn("user", place, pieces);
  EXPECT_THAT(pieces,
              ElementsAre(ChatPiece{.token = 1}, ChatPiece{.text = "user\n"}));
  EXPECT_EQ(place, (ChatPlace{.role = "user", .open = true}));
  // The other speaks: the turn ends first.
  pieces.clear();
  chat->BeginReply(place, pieces);
  EXPECT_THAT(
      pieces,
      ElementsAre(ChatPiece{.token = 2}, ChatPiece{.text = "\n"},
                  ChatPiece{.token = 1}, ChatPiece{.text = "assistant\n"}));
  // There is none to end.
  place = {};
  pieces.clear();
  chat->EndTurn(place, pieces);
  EXPECT_TRUE(pieces.empty());
}

// A role that is written out can not be more than a word.
TEST(ChatTemplateTest, RolesAreWords) {
  for (const auto& [name, names] : Vocabularies()) {
    const NamesOnly tokenizer(names);
    const auto chat = Made(name.substr(0, name.find('_')), tokenizer);
    EXPECT_THAT(chat->CheckRole("assistant"), IsOk());
    for (const std::string& role :
         {std::string(), std::string("user\n"), std::string("<|im_end|>"),
          std::string("User"), std::string(40, 'a'), std::string("a b")}) {
      EXPECT_THAT(chat->CheckRole(role), Fails(kInvalid, "role is \"")) << name;
    }
  }
}

TEST(ChatTemplateTest, TheVocabularySaysWhichIsTheDefault) {
  for (const auto& [name, names] : Vocabularies()) {
    const std::string kind =
        name == "mistral" ? "plain" : name.substr(0, name.find('_'));
    EXPECT_EQ(Made("", NamesOnly(names))->kind(), kind) << name;
  }
}

TEST(ChatTemplateTest, RefusesATemplateWhoseTokensAreNotThere) {
  const NamesOnly tokenizer(Vocabularies().at("llama3"));
  EXPECT_THAT(MakeChatTemplate("chatml", {}, tokenizer),
              Fails(kInvalid,
                    "found no control token <|im_start|> in the "
                    "tokenizer \"names\""));
  EXPECT_THAT(MakeChatTemplate("alpaca", {}, tokenizer),
              Fails(kInvalid, "found \"alpaca\", want plain, chatml"));
  EXPECT_THAT(MakeChatTemplate("tokens", {.user = 1}, tokenizer),
              Fails(kInvalid, "found no token for each turn"));
}

}  // namespace
}  // namespace mneme
