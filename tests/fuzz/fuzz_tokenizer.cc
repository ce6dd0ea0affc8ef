// SPDX-License-Identifier: Apache-2.0
//
// A tokenizer.model and a text for it: whatever the bytes, the file is refused
// or makes a tokenizer, to which the pieces of a text are the text.
//
// Input: the text's length in two bytes little-endian, the text, the file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/check.h"
#include "engine/base/utf8.h"
#include "engine/text/sentencepiece_tokenizer.h"

namespace mneme {
namespace {

constexpr int64_t kVocabSize = 1 << 16;

void EncodeBothWays(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<TextToken> whole;
  const int64_t taken = tokenizer.EncodeFront(
      text, {.begins = true, .ends = true}, SIZE_MAX, whole);
  MNEME_CHECK(taken == static_cast<int64_t>(text.size()));
  int64_t bytes = 0;
  for (const TextToken& token : whole) {
    MNEME_CHECK(token.id >= 0 && token.id < kVocabSize && token.bytes >= 0);
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
  MNEME_CHECK(pending.empty());
  MNEME_CHECK(streamed == whole);
}

void RunOne(std::string_view input) {
  if (input.size() < 2) return;
  const size_t length = static_cast<uint8_t>(input[0]) |
                        static_cast<size_t>(static_cast<uint8_t>(input[1]))
                            << 8;
  input.remove_prefix(2);
  std::string_view text = input.substr(0, length);
  text = text.substr(0, WholeUtf8Chars(text).whole_bytes);
  const std::string_view file = input.substr(std::min(length, input.size()));
  const auto tokenizer =
      MakeSentencePieceTokenizer(file, {.vocab_size = kVocabSize});
  if (!tokenizer.ok()) {
    MNEME_CHECK(!tokenizer.status().message().empty());
    return;
  }
  EncodeBothWays(**tokenizer, text);
}

}  // namespace
}  // namespace mneme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mneme::RunOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
