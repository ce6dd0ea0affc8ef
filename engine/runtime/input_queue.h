// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_INPUT_QUEUE_H_
#define MNEME_ENGINE_RUNTIME_INPUT_QUEUE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "engine/runtime/byte_queue.h"
#include "engine/runtime/served_model.h"
#include "engine/text/tokenizer.h"

namespace mneme {

// Input on its way to tokens: as bytes, first in, first out, in the form in
// which a history counts them. Text may have to wait for what follows it:
// what then is left in the queue is pending.
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
  void Clear();

  struct Token {
    int32_t id = 0;
    std::string_view bytes;  // of the input; until the next call
  };
  // Takes the next token off. `begins`: no text came before it in its
  // history; `ends`: as far as its tokens go, none follows what is there.
  absl::optional<Token> Next(bool begins, bool ends);

  // Until the next change.
  std::string_view bytes() const { return bytes_.bytes(); }
  int64_t size() const { return bytes_.size(); }
  // Whether all there is, if anything, is pending. True once Next has found
  // nothing, until there is more.
  bool idle() const { return idle_; }

  // Checks that `text` can follow what is there. INVALID_ARGUMENT (BAD_FIELD)
  // naming `field` and the byte, counted from `offset`.
  absl::Status CheckText(std::string_view text, const std::string& field,
                         int64_t offset = 0) const;
  // Checks that `text` can follow too as far as the model's token limit goes,
  // after the `position` tokens before what is there. FAILED_PRECONDITION
  // (TOKEN_LIMIT) naming `what`.
  absl::Status CheckLimit(std::string_view text, const std::string& what,
                          int64_t position) const;
  // Whether the end of the text cuts off a character.
  bool cut() const;

 private:
  const ServedModel* const model_;
  const SessionUnit unit_;
  ByteQueue bytes_;
  std::vector<TextToken> tokens_;  // of the front, from next_ on not taken
  size_t next_ = 0;
  std::string taken_;  // the bytes of the last token
  bool idle_ = true;
};

// FAILED_PRECONDITION (TOKEN_LIMIT): `what` goes beyond the model's limit.
absl::Status TokenLimit(const ServedModel& model, const std::string& what,
                        int64_t position);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_INPUT_QUEUE_H_
