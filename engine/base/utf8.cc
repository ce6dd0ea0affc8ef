// SPDX-License-Identifier: Apache-2.0
#include "engine/base/utf8.h"

#include <algorithm>

namespace mneme {

Utf8Char FirstUtf8Char(std::string_view text) {
  using Kind = Utf8Char::Kind;
  const auto lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80) return {Kind::kWhole, 1, lead};

  // Bytes of the character, the bits its lead gives, and the range of its
  // second byte, which excludes overlong forms, surrogates and what lies
  // above U+10FFFF.
  int64_t bytes = 0;
  char32_t code_point = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xbf;
  if (lead >= 0xc2 && lead <= 0xdf) {
    bytes = 2;
    code_point = lead & 0x1f;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    bytes = 3;
    code_point = lead & 0x0f;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    bytes = 4;
    code_point = lead & 0x07;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return {Kind::kMalformed, 1};
  }

  const int64_t there = std::min<int64_t>(bytes, text.size());
  for (int64_t i = 1; i < there; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (byte < low || byte > high) return {Kind::kMalformed, i};
    low = 0x80;
    high = 0xbf;
    code_point = code_point << 6 | (byte & 0x3f);
  }
  if (there < bytes) return {Kind::kIncomplete, there};
  return {Kind::kWhole, bytes, code_point};
}

Utf8Prefix WholeUtf8Chars(std::string_view text) {
  Utf8Prefix prefix;
  while (prefix.whole_bytes < static_cast<int64_t>(text.size())) {
    const Utf8Char c = FirstUtf8Char(text.substr(prefix.whole_bytes));
    if (c.kind != Utf8Char::Kind::kWhole) {
      prefix.cut = c.kind == Utf8Char::Kind::kIncomplete;
      break;
    }
    prefix.whole_bytes += c.bytes;
  }
  return prefix;
}

void AppendUtf8(char32_t code_point, std::string& text) {
  const auto continuation = [&](int shift) {
    text += static_cast<char>(0x80 | (code_point >> shift & 0x3f));
  };
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xc0 | code_point >> 6);
    continuation(0);
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xe0 | code_point >> 12);
    continuation(6);
    continuation(0);
  } else {
    text += static_cast<char>(0xf0 | code_point >> 18);
    continuation(12);
    continuation(6);
    continuation(0);
  }
}

}  // namespace mneme
