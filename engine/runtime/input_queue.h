// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_INPUT_QUEUE_H_
#define MNEME_ENGINE_RUNTIME_INPUT_QUEUE_H_

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "engine/runtime/byte_queue.h"
#include "engine/runtime/served_model.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

namespace mneme {

// Input that comes before a task.
struct Prompt {
  std::string bytes;  // in the form in which a history counts it
  std::string role;   // text sessions: it is a whole turn of this one's
  bool asks = false;  // an answer comes next; in a conversation, its turn
};

// Input on its way to tokens: as bytes, first in, first out, in the form in
// which a history counts them. Text may have to wait for what follows it:
// what then is left in the queue is pending.
//
// Turns of a conversation are set apart by what the model's chat template puts
// between them: tokens that no history counts, and text that none counts, but
// that merges with what is said. Without a template, turns leave no trace.
class InputQueue {
 public:
  // Most bytes that can be pending: what a tokenizer leaves, and a character
  // that is cut off.
  static constexpr int64_t kMaxPendingBytes = Tokenizer::kMaxPendingBytes + 3;

  // `model` outlives it.
  InputQueue(const ServedModel* model, SessionUnit unit)
      : model_(model), unit_(unit) {}

  // As ByteQueue.
  void Reserve(int64_t bytes) { bytes_.Reserve(bytes); }
  void Append(std::string_view bytes);
  // Forgets also what turns there were.
  void Clear();

  // A turn of `role` begins, unless it has; another's ends. Nothing if empty.
  void BeginTurn(std::string_view role);
  void EndTurn();
  // The prompt, and what comes before the answer to it, if it asks for one: the
  // beginning of the assistant's turn, if there were turns before.
  void AppendPrompt(const Prompt& prompt);
  // The model said `token`.
  void NoteSaid(int32_t token);

  struct Token {
    int32_t id = 0;
    std::string_view bytes;  // that a history counts; until the next call
  };
  // Takes the next token off. `begins`: no text came before it in its
  // history; `ends`: as far as its tokens go, none follows what is there.
  absl::optional<Token> Next(bool begins, bool ends);

  // Until the next change; with what the template put between turns.
  std::string_view bytes() const { return bytes_.bytes(); }
  // Bytes that a history counts.
  int64_t size() const { return bytes_.size() - template_bytes_; }
  // Memory that it takes.
  int64_t held_bytes() const {
    return bytes_.size() + static_cast<int64_t>(marks_.size() * sizeof(Mark));
  }
  // Whether all there is, if anything, is pending. True once Next has found
  // nothing, until there is more.
  bool idle() const { return idle_; }

  // Checks that `text` can follow what is there. INVALID_ARGUMENT (BAD_UTF8)
  // naming `field` and the byte, counted from `offset`.
  absl::Status CheckText(std::string_view text, const std::string& field,
                         int64_t offset = 0) const;
  // Checks that `text` can be of a turn of `role`, and `end_of_turn`.
  // INVALID_ARGUMENT (BAD_FIELD), naming the field after `message`, for a role
  // that the template does not have, or a turn that ends inside a character.
  absl::Status CheckTurn(std::string_view text, std::string_view role,
                         bool end_of_turn, const std::string& message) const;
  // Both of a prompt.
  absl::Status CheckPrompt(const Prompt& prompt) const;
  // Whether what is there and `bytes` more may be too much for the model's
  // token limit after `position` tokens; if not, they are not, for a token has
  // a byte at least.
  bool NearLimit(size_t bytes, int64_t position) const;
  // Checks that what is there can follow `position` tokens. FAILED_PRECONDITION
  // (TOKEN_LIMIT) naming `what`.
  absl::Status CheckLimit(const std::string& what, int64_t position) const;
  // Whether the end of the text cuts off a character.
  bool cut() const;

  // Appends what is there, where the input ends, and whether it is idle to
  // `out`; see engine/state/FORMAT.md. Mostly called of an idle queue, which
  // takes few bytes, but any will do.
  void Encode(std::string& out) const;
  // Becomes the queue that was encoded; memory that was reserved stays so.
  // DATA_LOSS for bytes that no queue of this model and unit has; then it is as
  // Clear makes it.
  absl::Status Decode(std::string_view in);

 private:
  // What the template put before byte `at`, counted from the first ever: a
  // token, or text, which lies there.
  struct Mark {
    int64_t at = 0;
    int64_t text_bytes = 0;
    absl::optional<int32_t> token;
  };
  struct Decoded;

  const ChatTemplate* chat() const {
    return unit_ == SessionUnit::kText ? model_->chat.get() : nullptr;
  }
  void Put(const std::vector<ChatPiece>& pieces);
  // Whether an answer that is asked for, after a prompt of `role`, begins a
  // turn of its own.
  bool BeginsReply(std::string_view role) const;
  // Whether `text`, behind what is there, ends inside a character.
  bool Cuts(std::string_view text) const;
  // Takes the first `bytes` off, into taken_ those that a history counts.
  void Take(int64_t bytes);
  // The first token that the template put; null if there is none.
  const Mark* FirstToken() const;
  // Makes tokens of the front. False if it waits for more.
  bool EncodeFront(bool begins, bool ends);
  // Checks what was decoded; an empty string if nothing is wrong.
  std::string WhatIsWrong(const Decoded& decoded) const;
  std::string WhatIsWrongWithText(const Decoded& decoded) const;

  const ServedModel* model_;
  SessionUnit unit_;
  ByteQueue bytes_;
  int64_t taken_bytes_ = 0;        // ever
  std::deque<Mark> marks_;         // in their order
  int64_t template_bytes_ = 0;     // of bytes_, those of marks
  ChatPlace place_;                // where the input ends
  bool after_control_ = false;     // the last token that was taken is a mark's
  std::vector<TextToken> tokens_;  // of the front, from next_ on not taken
  size_t next_ = 0;
  std::string taken_;  // the counted bytes of the last token
  bool idle_ = true;
};

// FAILED_PRECONDITION (TOKEN_LIMIT): `what` goes beyond the model's limit.
absl::Status TokenLimit(const ServedModel& model, const std::string& what,
                        int64_t position);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_INPUT_QUEUE_H_
