// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_TOKENIZER_H_
#define MNEME_ENGINE_TEXT_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace mneme {

// A token, and how many bytes of the text it stands for.
struct TextToken {
  int32_t id = 0;
  int32_t bytes = 0;

  bool operator==(const TextToken&) const = default;
};

// Where a piece of text stands.
struct TextPlace {
  bool begins = false;         // no text comes before it
  bool ends = false;           // none follows it, as far as its tokens go
  bool after_control = false;  // a control token stands right before it
};

// Turns text into tokens and back. Immutable and thread-safe.
class Tokenizer {
 public:
  // Most bytes that EncodeFront leaves of a text that goes on.
  static constexpr int64_t kMaxPendingBytes = 8 << 10;

  virtual ~Tokenizer() = default;

  // "bytes", "sentencepiece", "huggingface", "words"
  virtual std::string_view kind() const = 0;

  // Whether text has to be UTF-8.
  virtual bool utf8() const = 0;

  // Appends tokens of the front of `text` to `tokens`, until they are
  // `enough` or more, or until what is left may still come out otherwise,
  // depending on what follows it. Returns the bytes they stand for. If the text
  // ends, all of it becomes tokens but for a character that its end cuts off,
  // and for white space where that is part of the word behind it.
  //
  // Whoever takes the returned bytes off and calls again, with more text behind
  // the rest as it comes, gets the tokens of the whole, whatever the pieces.
  // REQUIRES: well-formed UTF-8 where utf8(), possibly cut off at the end.
  virtual int64_t EncodeFront(std::string_view text, TextPlace place,
                              size_t enough,
                              std::vector<TextToken>& tokens) const = 0;

  // The bytes that `token` stands for; none for control tokens and for ids
  // that mean nothing.
  virtual std::string Decode(int32_t token) const = 0;

  // What a text begins with that Decode gives and nobody wrote: a space, or
  // nothing.
  virtual std::string_view prefix() const = 0;

  // The token that a session's history begins with, if any.
  virtual absl::optional<int32_t> bos() const = 0;
  // Tokens that end a text.
  virtual absl::Span<const int32_t> eos() const = 0;

  // The control token of that name, which no text becomes; nothing if there is
  // none.
  virtual absl::optional<int32_t> ControlToken(
      std::string_view /*name*/) const {
    return absl::nullopt;
  }

  // For each token id, 1 if a model may say it: text and end tokens. The rest
  // are rows of the vocabulary that mean nothing, and control tokens.
  virtual absl::Span<const uint8_t> sayable() const = 0;
};

// What a model's config says of its tokens.
struct VocabularyOptions {
  int64_t vocab_size = 256;
  absl::optional<int32_t> bos;
  std::vector<int32_t> eos;
  bool lower_case = false;  // of words alone: text is made so before
};

// One token per byte: ids 0 to 255. Ids from 256 to vocab_size - 1 are control
// tokens. REQUIRES: vocab_size >= 256, and that bos and eos are control tokens.
std::unique_ptr<const Tokenizer> MakeByteTokenizer(VocabularyOptions options);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_TOKENIZER_H_
