// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_TOKENIZER_H_
#define MNEME_ENGINE_TEXT_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace mneme {

// Turns text into tokens and back. Immutable and thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // "bytes"
  virtual std::string_view kind() const = 0;

  // Appends the tokens of `text` to `tokens`. Any cut of a text into pieces
  // gives the tokens of the whole.
  virtual void Encode(std::string_view text,
                      std::vector<int32_t>& tokens) const = 0;

  // The bytes that `token` stands for; none for control tokens and for ids
  // that mean nothing.
  virtual std::string Decode(int32_t token) const = 0;

  // The token that a session's history begins with, if any.
  virtual absl::optional<int32_t> bos() const = 0;
  // Tokens that end a text.
  virtual absl::Span<const int32_t> eos() const = 0;

  // For each token id, 1 if a model may say it: text and end tokens. The rest
  // are rows of the vocabulary that mean nothing, and control tokens.
  virtual absl::Span<const uint8_t> sayable() const = 0;
};

// One token per byte: ids 0 to 255. Ids from 256 to vocab_size - 1 are control
// tokens. REQUIRES: vocab_size >= 256.
struct ByteTokenizerOptions {
  int64_t vocab_size = 256;
  absl::optional<int32_t> bos;
  std::vector<int32_t> eos;
};
std::unique_ptr<const Tokenizer> MakeByteTokenizer(
    ByteTokenizerOptions options);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_TOKENIZER_H_
