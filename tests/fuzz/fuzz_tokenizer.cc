// SPDX-License-Identifier: Apache-2.0
//
// A tokenizer.model and a text for it: whatever the bytes, the file is refused
// or makes a tokenizer, to which the pieces of a text are the text.
//
// Input: the text's length in two bytes little-endian, the text, the file.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/text/sentencepiece_tokenizer.h"
#include "tests/fuzz/encode_both_ways.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kVocabSize = 1 << 16;
  mneme::EncodeAsFileSays({reinterpret_cast<const char*>(data), size},
                          /*length_bytes=*/2, kVocabSize,
                          [](std::string_view file) {
                            return mneme::MakeSentencePieceTokenizer(
                                file, {.vocab_size = kVocabSize});
                          });
  return 0;
}
