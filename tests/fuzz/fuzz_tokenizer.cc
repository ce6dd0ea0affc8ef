// SPDX-License-Identifier: Apache-2.0
//
// A tokenizer.model and a text for it: whatever the bytes, the file is refused
// or makes a tokenizer, to which the pieces of a text are the text.
//
// Input: the text's length in two bytes little-endian, the text, the file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/base/check.h"
#include "engine/base/utf8.h"
#include "engine/text/sentencepiece_tokenizer.h"
#include "tests/fuzz/encode_both_ways.h"

namespace mneme {
namespace {

constexpr int64_t kVocabSize = 1 << 16;

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
  EncodeBothWays(**tokenizer, kVocabSize, text);
}

}  // namespace
}  // namespace mneme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mneme::RunOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
