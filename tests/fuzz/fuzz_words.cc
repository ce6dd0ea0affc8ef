// SPDX-License-Identifier: Apache-2.0
//
// A vocab.txt and a text for it: whatever the bytes, the file is refused or
// makes a tokenizer, to which the pieces of a text are the text.
//
// Input: the text's length in a byte, the text, the file.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/text/word_tokenizer.h"
#include "tests/fuzz/encode_both_ways.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kVocabSize = 1 << 10;
  mneme::EncodeAsFileSays(
      {reinterpret_cast<const char*>(data), size}, /*length_bytes=*/1,
      kVocabSize,
      [](std::string_view file) {
        return mneme::MakeWordTokenizer(file, {.vocab_size = kVocabSize});
      },
      /*leaves_space=*/true);
  return 0;
}
