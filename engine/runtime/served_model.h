// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_SERVED_MODEL_H_
#define MNEME_ENGINE_RUNTIME_SERVED_MODEL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/model/model.h"
#include "engine/runtime/types.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

namespace mneme {

// A model under a name, with its tokenizer. Immutable, but for a count.
struct ServedModel {
  // Counts a session that is in memory, while it lives.
  class HotSession {
   public:
    explicit HotSession(const ServedModel& model) : count_(model.hot_sessions) {
      count_->fetch_add(1, std::memory_order_relaxed);
    }
    HotSession(const HotSession&) = delete;
    HotSession& operator=(const HotSession&) = delete;
    ~HotSession() { count_->fetch_sub(1, std::memory_order_relaxed); }

   private:
    const std::shared_ptr<std::atomic<int64_t>> count_;
  };

  std::string name;
  std::shared_ptr<const Model> model;
  std::unique_ptr<const Tokenizer> tokenizer;  // null: token sessions only
  std::unique_ptr<const ChatTemplate> chat;    // null: without a tokenizer
  std::vector<uint8_t> text_sayable;           // see sayable
  absl::Time load_time;
  // The one thing that changes.
  std::shared_ptr<std::atomic<int64_t>> hot_sessions =
      std::make_shared<std::atomic<int64_t>>(0);

  // Whether the text of a history with so many tokens has yet to begin.
  bool TextBegins(int64_t position) const {
    return position <= (tokenizer->bos().has_value() ? 1 : 0);
  }

  // The token ids that a model may say; empty: all.
  absl::Span<const uint8_t> sayable(SessionUnit unit) const {
    if (unit != SessionUnit::kText) return {};
    return text_sayable.empty() ? tokenizer->sayable() : text_sayable;
  }

  // Whether a text ends with `token`: where the config says so, or where a turn
  // of a conversation does.
  bool Ends(int32_t token) const;

  // Whether `payload` can be input of a session of `unit`. Errors name `what`:
  // FAILED_PRECONDITION (WRONG_UNIT) for a payload of the other unit,
  // INVALID_ARGUMENT (BAD_FIELD) for an id that the model does not have. What
  // text is made of depends on what it follows: InputQueue::CheckText.
  absl::Status CheckInput(SessionUnit unit, const Payload& payload,
                          const std::string& what) const;

  // All of a text's tokens, as at the beginning of a session, but for the one
  // that begins a history. UNIMPLEMENTED (NO_TOKENIZER);
  // INVALID_ARGUMENT for text that is too long or not whole UTF-8.
  absl::StatusOr<std::vector<TextToken>> Tokenize(std::string_view text) const;
  // The text that tokens at the beginning of a session stand for.
  // UNIMPLEMENTED (NO_TOKENIZER); INVALID_ARGUMENT for too many of them,
  // or an id that the model does not have.
  absl::StatusOr<std::string> Detokenize(
      const std::vector<int32_t>& tokens) const;
};

// The tokenizer that the model's config names; null if none. Errors as
// MakeSentencePieceTokenizer, MakeHuggingFaceTokenizer and MakeWordTokenizer.
absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeTokenizer(
    const Model& model);

// Gives a model its tokenizer, and what comes with it. Errors as MakeTokenizer
// and MakeChatTemplate. REQUIRES: served.model.
absl::Status AddTokenizer(ServedModel& served);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SERVED_MODEL_H_
