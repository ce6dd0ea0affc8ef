// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_FUZZ_ENCODE_BOTH_WAYS_H_
#define MNEME_TESTS_FUZZ_ENCODE_BOTH_WAYS_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/check.h"
#include "engine/base/utf8.h"
#include "engine/text/tokenizer.h"

namespace mneme {

// Checks that `tokenizer`, to a vocabulary of `vocab_size`, makes the same
// tokens of the pieces of a text as of the text, and that they stand for all of
// it, but for white space at its end if `leaves_space`. REQUIRES: UTF-8.
inline void EncodeBothWays(const Tokenizer& tokenizer, int64_t vocab_size,
                           std::string_view text, bool leaves_space = false) {
  std::vector<TextToken> whole;
  const int64_t taken = tokenizer.EncodeFront(
      text, {.begins = true, .ends = true}, SIZE_MAX, whole);
  MNEME_CHECK(leaves_space ? taken <= static_cast<int64_t>(text.size())
                           : taken == static_cast<int64_t>(text.size()));
  int64_t bytes = 0;
  for (const TextToken& token : whole) {
    MNEME_CHECK(token.id >= 0 && token.id < vocab_size && token.bytes >= 0);
    bytes += token.bytes;
    tokenizer.Decode(token.id);
  }
  MNEME_CHECK(bytes == taken);

  std::vector<TextToken> streamed;
  std::string pending;
  for (size_t at = 0; at < text.size();) {
    const size_t piece = std::min<size_t>(1 + at % 7, text.size() - at);
    pending += text.substr(at, piece);
    at += piece;
    pending.erase(
        0, tokenizer.EncodeFront(
               pending, {.begins = streamed.empty(), .ends = at == text.size()},
               SIZE_MAX, streamed));
  }
  MNEME_CHECK(pending == text.substr(taken));
  MNEME_CHECK(streamed == whole);
}

// Whatever the bytes of `input`, a file is refused or makes a tokenizer, to
// which the pieces of a text are the text. Input: the text's length in
// `length_bytes` little-endian, the text, the file. `make`(file) makes it.
template <typename Make>
void EncodeAsFileSays(std::string_view input, size_t length_bytes,
                      int64_t vocab_size, const Make& make,
                      bool leaves_space = false) {
  if (input.size() < length_bytes) return;
  size_t length = 0;
  for (size_t i = 0; i < length_bytes; ++i) {
    length |= static_cast<size_t>(static_cast<uint8_t>(input[i])) << (8 * i);
  }
  input.remove_prefix(length_bytes);
  std::string_view text = input.substr(0, length);
  text = text.substr(0, WholeUtf8Chars(text).whole_bytes);
  const auto tokenizer = make(input.substr(std::min(length, input.size())));
  if (!tokenizer.ok()) {
    MNEME_CHECK(!tokenizer.status().message().empty());
    return;
  }
  EncodeBothWays(**tokenizer, vocab_size, text, leaves_space);
}

}  // namespace mneme

#endif  // MNEME_TESTS_FUZZ_ENCODE_BOTH_WAYS_H_
