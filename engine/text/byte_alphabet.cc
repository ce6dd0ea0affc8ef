// SPDX-License-Identifier: Apache-2.0
#include "engine/text/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "engine/base/utf8.h"

namespace mneme {
namespace {

constexpr bool IsVisible(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
}

// The bytes that are spelled U+0100 and above, in that order.
constexpr auto kHidden = [] {
  std::array<uint8_t, 68> hidden{};
  int count = 0;
  for (int byte = 0; byte < 256; ++byte) {
    if (!IsVisible(byte)) hidden[count++] = static_cast<uint8_t>(byte);
  }
  return hidden;
}();

}  // namespace

absl::optional<std::string> BytesOfSpelling(std::string_view spelled) {
  std::string bytes;
  while (!spelled.empty()) {
    const Utf8Char c = FirstUtf8Char(spelled);
    const char32_t code_point = c.code_point;
    if (code_point < 256 && IsVisible(static_cast<int>(code_point))) {
      bytes += static_cast<char>(code_point);
    } else if (code_point >= 256 && code_point < 256 + kHidden.size()) {
      bytes += static_cast<char>(kHidden[code_point - 256]);
    } else {
      return absl::nullopt;
    }
    spelled.remove_prefix(c.bytes);
  }
  return bytes;
}

}  // namespace mneme
