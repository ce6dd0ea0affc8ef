// SPDX-License-Identifier: Apache-2.0
//
// GPT-2's way of spelling bytes as visible characters, in which the files of
// byte-level tokenizers write their tokens: a byte that is a printable
// character of Latin-1 but no space is that character, the others are, in
// order, U+0100, U+0101 and so on. A space is U+0120.
#ifndef MNEME_ENGINE_TEXT_BYTE_ALPHABET_H_
#define MNEME_ENGINE_TEXT_BYTE_ALPHABET_H_

#include <string>
#include <string_view>

#include "absl/types/optional.h"

namespace mneme {

// The bytes that `spelled` stands for; nothing if one of its characters stands
// for none. REQUIRES: UTF-8.
absl::optional<std::string> BytesOfSpelling(std::string_view spelled);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_BYTE_ALPHABET_H_
