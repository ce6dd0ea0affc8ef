// SPDX-License-Identifier: Apache-2.0
//
// How a conversation becomes one text: what stands between its turns.
//
// What is written depends on what was written before and never changes it, so
// that turns can be written one by one as they come: a session does not go
// back. What a model's own template does otherwise is left out: to look at
// later turns (Mistral's puts the system's words before the last user's), to
// trim a turn's end, to add words nobody said (Qwen's system prompt).
#ifndef MNEME_ENGINE_TEXT_CHAT_TEMPLATE_H_
#define MNEME_ENGINE_TEXT_CHAT_TEMPLATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/text/tokenizer.h"

namespace mneme {

// Who the model speaks for.
inline constexpr std::string_view kAssistantRole = "assistant";

// A piece of what stands between turns: a control token, or text. Text beside
// text, also that of a turn, is one text to the tokenizer.
struct ChatPiece {
  absl::optional<int32_t> token;
  std::string text;

  bool operator==(const ChatPiece&) const = default;
};

// How far a conversation is; as it begins if there was no turn.
struct ChatPlace {
  std::string role;    // of the last turn; empty: there was none
  bool open = false;   // it goes on
  bool ended = false;  // though the token that ends it has been said

  bool operator==(const ChatPlace&) const = default;
};

// Immutable and thread-safe.
//
//   plain    user: Hello\nassistant: Hi.\n
//   chatml   <|im_start|>user\nHello<|im_end|>\n
//   llama3   <|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>
//   mistral  [INST] Hello [/INST]Hi.</s>, where [INST] is text (7B v0.1, v0.2);
//            [INST] Hello[/INST] Hi.</s>, where it is a control token (v0.3)
//   tokens   <user>Hello<assistant>Hi.<end>, tokens that the config names
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;

  // "plain", "chatml", "llama3", "mistral", "tokens"
  virtual std::string_view kind() const = 0;

  // INVALID_ARGUMENT for a role that it has no form for.
  virtual absl::Status CheckRole(std::string_view role) const = 0;

  // Appends to `pieces` what comes before a turn of `role`, the end of one that
  // is open included. REQUIRES: CheckRole(role).
  void BeginTurn(std::string_view role, ChatPlace& place,
                 std::vector<ChatPiece>& pieces) const;
  // The same for a turn of the assistant, which the model then says.
  void BeginReply(ChatPlace& place, std::vector<ChatPiece>& pieces) const;
  // Appends what ends the open turn, if one is.
  void EndTurn(ChatPlace& place, std::vector<ChatPiece>& pieces) const;

  // The model said `token` in its turn.
  void NoteSaid(int32_t token, ChatPlace& place) const {
    if (place.open && end() == token) place.ended = true;
  }
  // The token that ends a reply, if one does.
  virtual absl::optional<int32_t> end() const = 0;

 protected:
  // What stands before a turn, `reply` if the model will say it; and behind
  // one, without and with end().
  virtual void Before(std::string_view role, bool reply, const ChatPlace& place,
                      std::vector<ChatPiece>& pieces) const = 0;
  virtual void Behind(const ChatPlace& place,
                      std::vector<ChatPiece>& pieces) const = 0;
};

// Token ids that a config names for the template "tokens".
struct TurnTokens {
  absl::optional<int32_t> user;
  absl::optional<int32_t> assistant;
};

// The template that is called `kind`, in the tokens of `tokenizer`. If `kind`
// is empty: "tokens" if both of those are there; else the first of chatml,
// llama3 and mistral whose control tokens are, or plain. INVALID_ARGUMENT
// naming what `tokenizer` lacks.
absl::StatusOr<std::unique_ptr<const ChatTemplate>> MakeChatTemplate(
    std::string_view kind, const TurnTokens& tokens,
    const Tokenizer& tokenizer);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_CHAT_TEMPLATE_H_
