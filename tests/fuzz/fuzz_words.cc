// SPDX-License-Identifier: Apache-2.0
//
// A vocab.txt and a text for it: whatever the bytes, the file is refused or
// makes a tokenizer, to which the pieces of a text are the text.
//
// Input: the text's length in a byte, the text, the file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/base/check.h"
#include "engine/base/utf8.h"
#include "engine/text/word_tokenizer.h"
#include "tests/fuzz/encode_both_ways.h"

namespace mneme {
namespace {

constexpr int64_t kVocabSize = 1 << 10;

void RunOne(std::string_view input) {
  if (input.empty()) return;
  const size_t length = static_cast<uint8_t>(input[0]);
  input.remove_prefix(1);
  std::string_view text = input.substr(0, length);
  text = text.substr(0, WholeUtf8Chars(text).whole_bytes);
  const std::string_view file = input.substr(std::min(length, input.size()));
  const auto tokenizer = MakeWordTokenizer(file, {.vocab_size = kVocabSize});
  if (!tokenizer.ok()) {
    MNEME_CHECK(!tokenizer.status().message().empty());
    return;
  }
  EncodeBothWays(**tokenizer, kVocabSize, text, /*leaves_space=*/true);
}

}  // namespace
}  // namespace mneme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mneme::RunOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
