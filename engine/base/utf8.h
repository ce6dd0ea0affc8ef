// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_UTF8_H_
#define MNEME_ENGINE_BASE_UTF8_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace mneme {

// The longest character.
inline constexpr int64_t kMaxUtf8Bytes = 4;

// One character at the front of a text. RFC 3629: no overlong forms, no
// surrogates, nothing above U+10FFFF.
struct Utf8Char {
  enum class Kind {
    kWhole,
    kIncomplete,  // the text ends inside it
    kMalformed,
  };
  Kind kind = Kind::kMalformed;
  // kWhole: its bytes, 1 to 4. kIncomplete: all that is there. kMalformed: as
  // many as can not be part of any character, at least 1.
  int64_t bytes = 0;
  char32_t code_point = 0;  // kWhole
};

// REQUIRES: `text` is not empty.
Utf8Char FirstUtf8Char(std::string_view text);

// How much of a text is whole characters.
struct Utf8Prefix {
  int64_t whole_bytes = 0;  // from the front
  // Whether what follows them begins a character that the end of the text
  // cuts off. If neither this nor all of the text is whole: it is malformed
  // at whole_bytes.
  bool cut = false;
};
Utf8Prefix WholeUtf8Chars(std::string_view text);

// REQUIRES: `code_point` is a character: no surrogate, at most U+10FFFF.
void AppendUtf8(char32_t code_point, std::string& text);

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_UTF8_H_
