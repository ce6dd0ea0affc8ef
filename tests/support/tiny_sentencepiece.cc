// SPDX-License-Identifier: Apache-2.0
#include "tests/support/tiny_sentencepiece.h"

#include <cstring>
#include <string_view>

#include "absl/strings/str_format.h"
#include "engine/base/coding.h"

namespace mneme {
namespace {

// Fields of a protocol buffer message; sizes below 128.
std::string BytesField(int number, std::string_view bytes) {
  std::string field = {static_cast<char>(number << 3 | 2),
                       static_cast<char>(bytes.size())};
  field += bytes;
  return field;
}

std::string Piece(std::string_view text, float score, int type) {
  uint32_t bits = 0;
  std::memcpy(&bits, &score, sizeof(bits));
  std::string fixed(4, '\0');
  EncodeFixed32(bits, fixed.data());
  std::string piece = BytesField(1, text);
  piece += static_cast<char>(2 << 3 | 5);
  piece += fixed;
  piece += static_cast<char>(3 << 3);
  piece += static_cast<char>(type);
  return BytesField(1, piece);
}

}  // namespace

std::string TinySentencePieceModel() {
  constexpr int kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6;
  std::string model = Piece("<unk>", 0, kUnknown);
  model += Piece("<s>", 0, kControl);
  model += Piece("</s>", 0, kControl);
  for (int byte = 0; byte < 256; ++byte) {
    model += Piece(absl::StrFormat("<0x%02X>", byte), 0, kByte);
  }
  float rank = 0;
  // Best first; U+2581 is a space.
  for (const char* text : {"\xe2\x96\x81t",
                           "he",
                           "in",
                           "\xe2\x96\x81the",
                           "er",
                           "on",
                           "nd",
                           "\xe2\x96\x81"
                           "a",
                           "and",
                           "\xe2\x96\x81"
                           "and",
                           "the",
                           "aa",
                           "aaaa",
                           "\xe2\x96\x81\xe2\x96\x81",
                           "\xe2\x96\x81\xe2\x96\x81\xe2\x96\x81\xe2\x96\x81",
                           "th",
                           "or",
                           "\xe2\x96\x81w",
                           "\xe2\x96\x81wor",
                           "\xe2\x96\x81word",
                           "\xc3\xa9",
                           "\xe4\xb8\xad",
                           "\xe4\xb8\xad\xe6\x96\x87",
                           "\xe6\x96\x87"}) {
    model += Piece(text, rank, kNormal);
    rank -= 1;
  }
  model += Piece("\xe2\x96\x81", rank, kNormal);
  for (char letter = 'a'; letter <= 'z'; ++letter) {
    rank -= 1;
    model += Piece(std::string_view(&letter, 1), rank, kNormal);
  }
  // trainer_spec {model_type: BPE, byte_fallback: true}
  model += BytesField(2, std::string_view("\x18\x02\x98\x02\x01", 5));
  // normalizer_spec {name: "identity", add_dummy_prefix: true,
  //                  remove_extra_whitespaces: false}
  model += BytesField(
      3, BytesField(1, "identity") + std::string("\x18\x01\x20\x00", 4));
  return model;
}

}  // namespace mneme
