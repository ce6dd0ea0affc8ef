// SPDX-License-Identifier: Apache-2.0
#include "engine/text/chat_template.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

constexpr std::string_view kUser = "user";
constexpr std::string_view kSystem = "system";
constexpr size_t kMaxRoleBytes = 32;

ChatPiece Text(std::string text) { return {.text = std::move(text)}; }
ChatPiece Token(int32_t token) { return {.token = token}; }

absl::Status WrongRole(std::string_view kind, std::string_view role,
                       std::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat(
      "role is \"", absl::CHexEscape(std::string(role.substr(0, 64))),
      "\", want ", std::string(wanted), " (chat template ", std::string(kind),
      ")"));
}

// One that writes roles out: letters alone, so that nothing else can be.
class WrittenRoleTemplate : public ChatTemplate {
 public:
  absl::Status CheckRole(std::string_view role) const final {
    const bool plain = std::all_of(role.begin(), role.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
             c == '-';
    });
    if (plain && !role.empty() && role.size() <= kMaxRoleBytes) {
      return absl::OkStatus();
    }
    return WrongRole(kind(), role,
                     absl::StrCat("1 to ", kMaxRoleBytes,
                                  " of the characters a-z, 0-9, _ and -"));
  }
};

class PlainTemplate final : public WrittenRoleTemplate {
 public:
  std::string_view kind() const override { return "plain"; }
  absl::optional<int32_t> end() const override { return absl::nullopt; }

 protected:
  void Before(std::string_view role, bool reply, const ChatPlace& /*place*/,
              std::vector<ChatPiece>& pieces) const override {
    // The space is the first token's that a model says.
    pieces.push_back(Text(absl::StrCat(std::string(role), reply ? ":" : ": ")));
  }
  void Behind(const ChatPlace& /*place*/,
              std::vector<ChatPiece>& pieces) const override {
    pieces.push_back(Text("\n"));
  }
};

class ChatmlTemplate final : public WrittenRoleTemplate {
 public:
  ChatmlTemplate(int32_t start, int32_t end) : start_(start), end_(end) {}

  std::string_view kind() const override { return "chatml"; }
  absl::optional<int32_t> end() const override { return end_; }

 protected:
  void Before(std::string_view role, bool /*reply*/, const ChatPlace& /*place*/,
              std::vector<ChatPiece>& pieces) const override {
    pieces.push_back(Token(start_));
    pieces.push_back(Text(absl::StrCat(std::string(role), "\n")));
  }
  void Behind(const ChatPlace& place,
              std::vector<ChatPiece>& pieces) const override {
    if (!place.ended) pieces.push_back(Token(end_));
    pieces.push_back(Text("\n"));
  }

 private:
  const int32_t start_;
  const int32_t end_;
};

class Llama3Template final : public WrittenRoleTemplate {
 public:
  Llama3Template(int32_t start_header, int32_t end_header, int32_t end)
      : start_header_(start_header), end_header_(end_header), end_(end) {}

  std::string_view kind() const override { return "llama3"; }
  absl::optional<int32_t> end() const override { return end_; }

 protected:
  void Before(std::string_view role, bool /*reply*/, const ChatPlace& /*place*/,
              std::vector<ChatPiece>& pieces) const override {
    pieces.push_back(Token(start_header_));
    pieces.push_back(Text(std::string(role)));
    pieces.push_back(Token(end_header_));
    pieces.push_back(Text("\n\n"));
  }
  void Behind(const ChatPlace& place,
              std::vector<ChatPiece>& pieces) const override {
    if (!place.ended) pieces.push_back(Token(end_));
  }

 private:
  const int32_t start_header_;
  const int32_t end_header_;
  const int32_t end_;
};

// The system's words open the user's turn that follows.
class MistralTemplate final : public ChatTemplate {
 public:
  struct Instruction {
    int32_t begin = 0;
    int32_t end = 0;
  };
  // `instruction`: [INST] and [/INST], where they are control tokens.
  MistralTemplate(absl::optional<Instruction> instruction, int32_t end)
      : instruction_(instruction), end_(end) {}

  std::string_view kind() const override { return "mistral"; }
  absl::Status CheckRole(std::string_view role) const override {
    if (role == kUser || role == kAssistantRole || role == kSystem) {
      return absl::OkStatus();
    }
    return WrongRole(kind(), role, "user, assistant or system");
  }
  absl::optional<int32_t> end() const override { return end_; }

 protected:
  void Before(std::string_view role, bool reply, const ChatPlace& place,
              std::vector<ChatPiece>& pieces) const override {
    if (role == kAssistantRole) {
      if (instruction_.has_value() && !reply) pieces.push_back(Text(" "));
    } else if (place.role == kSystem) {
      pieces.push_back(Text("\n\n"));
    } else if (instruction_.has_value()) {
      pieces.push_back(Token(instruction_->begin));
      pieces.push_back(Text(" "));
    } else {
      pieces.push_back(Text("[INST] "));
    }
  }
  void Behind(const ChatPlace& place,
              std::vector<ChatPiece>& pieces) const override {
    if (place.role == kAssistantRole) {
      if (!place.ended) pieces.push_back(Token(end_));
    } else if (place.role == kUser) {
      pieces.push_back(instruction_.has_value() ? Token(instruction_->end)
                                                : Text(" [/INST]"));
    }
  }

 private:
  const absl::optional<Instruction> instruction_;
  const int32_t end_;
};

class TokensTemplate final : public ChatTemplate {
 public:
  TokensTemplate(int32_t user, int32_t assistant, int32_t end)
      : user_(user), assistant_(assistant), end_(end) {}

  std::string_view kind() const override { return "tokens"; }
  absl::Status CheckRole(std::string_view role) const override {
    if (role == kUser || role == kAssistantRole) return absl::OkStatus();
    return WrongRole(kind(), role, "user or assistant");
  }
  absl::optional<int32_t> end() const override { return end_; }

 protected:
  void Before(std::string_view role, bool /*reply*/, const ChatPlace& /*place*/,
              std::vector<ChatPiece>& pieces) const override {
    pieces.push_back(Token(role == kUser ? user_ : assistant_));
  }
  void Behind(const ChatPlace& place,
              std::vector<ChatPiece>& pieces) const override {
    if (place.role == kAssistantRole && !place.ended) {
      pieces.push_back(Token(end_));
    }
  }

 private:
  const int32_t user_;
  const int32_t assistant_;
  const int32_t end_;
};

// The ids of control tokens by their names; the first that is missing is kept.
class ControlTokens {
 public:
  explicit ControlTokens(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  bool Has(std::string_view name) const {
    return tokenizer_.ControlToken(name).has_value();
  }
  int32_t Id(std::string_view name) {
    const absl::optional<int32_t> id = tokenizer_.ControlToken(name);
    if (!id.has_value() && missing_.empty()) missing_ = std::string(name);
    return id.value_or(0);
  }
  absl::Status status(std::string_view kind) const {
    if (missing_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        "chat template \"", std::string(kind), "\": found no control token ",
        missing_, " in the tokenizer \"", std::string(tokenizer_.kind()),
        "\", want it there, or another \"chat_template\""));
  }

 private:
  const Tokenizer& tokenizer_;
  std::string missing_;
};

std::string_view DefaultKind(const TurnTokens& tokens,
                             const ControlTokens& control) {
  if (tokens.user.has_value() && tokens.assistant.has_value()) return "tokens";
  if (control.Has("<|im_start|>") && control.Has("<|im_end|>")) return "chatml";
  if (control.Has("<|start_header_id|>") && control.Has("<|end_header_id|>") &&
      control.Has("<|eot_id|>")) {
    return "llama3";
  }
  const bool mistral =
      control.Has("[INST]") && control.Has("[/INST]") && control.Has("</s>");
  return mistral ? "mistral" : "plain";
}

}  // namespace

void ChatTemplate::BeginTurn(std::string_view role, ChatPlace& place,
                             std::vector<ChatPiece>& pieces) const {
  EndTurn(place, pieces);
  Before(role, /*reply=*/false, place, pieces);
  place = {.role = std::string(role), .open = true};
}

void ChatTemplate::BeginReply(ChatPlace& place,
                              std::vector<ChatPiece>& pieces) const {
  EndTurn(place, pieces);
  Before(kAssistantRole, /*reply=*/true, place, pieces);
  place = {.role = std::string(kAssistantRole), .open = true};
}

void ChatTemplate::EndTurn(ChatPlace& place,
                           std::vector<ChatPiece>& pieces) const {
  if (!place.open) return;
  Behind(place, pieces);
  place.open = false;
}

absl::StatusOr<std::unique_ptr<const ChatTemplate>> MakeChatTemplate(
    std::string_view kind, const TurnTokens& tokens,
    const Tokenizer& tokenizer) {
  ControlTokens control(tokenizer);
  if (kind.empty()) kind = DefaultKind(tokens, control);
  std::unique_ptr<const ChatTemplate> made;
  if (kind == "plain") {
    made = std::make_unique<PlainTemplate>();
  } else if (kind == "chatml") {
    const int32_t start = control.Id("<|im_start|>");
    const int32_t end = control.Id("<|im_end|>");
    made = std::make_unique<ChatmlTemplate>(start, end);
  } else if (kind == "llama3") {
    const int32_t start_header = control.Id("<|start_header_id|>");
    const int32_t end_header = control.Id("<|end_header_id|>");
    const int32_t end = control.Id("<|eot_id|>");
    made = std::make_unique<Llama3Template>(start_header, end_header, end);
  } else if (kind == "mistral") {
    absl::optional<MistralTemplate::Instruction> instruction;
    if (control.Has("[INST]")) {
      instruction = {control.Id("[INST]"), control.Id("[/INST]")};
    }
    made = std::make_unique<MistralTemplate>(instruction, control.Id("</s>"));
  } else if (kind == "tokens") {
    if (!tokens.user.has_value() || !tokens.assistant.has_value() ||
        tokenizer.eos().empty()) {
      return absl::InvalidArgumentError(
          "chat template \"tokens\": found no token for each turn, want "
          "\"user_token_id\", \"assistant_token_id\" and \"eos_token_id\"");
    }
    made = std::make_unique<TokensTemplate>(*tokens.user, *tokens.assistant,
                                            tokenizer.eos()[0]);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("chat template: found \"", std::string(kind),
                     "\", want plain, chatml, llama3, mistral or tokens"));
  }
  MNEME_RETURN_IF_ERROR(control.status(kind));
  return made;
}

}  // namespace mneme
