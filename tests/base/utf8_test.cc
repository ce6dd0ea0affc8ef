// SPDX-License-Identifier: Apache-2.0
#include "engine/base/utf8.h"

#include <string>

#include "gtest/gtest.h"

namespace mneme {
namespace {

using Kind = Utf8Char::Kind;

std::string Encode(char32_t c) {
  auto byte = [](char32_t bits) { return static_cast<char>(bits); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xc0 | c >> 6), byte(0x80 | (c & 0x3f))};
  if (c < 0x10000) {
    return {byte(0xe0 | c >> 12), byte(0x80 | (c >> 6 & 0x3f)),
            byte(0x80 | (c & 0x3f))};
  }
  return {byte(0xf0 | c >> 18), byte(0x80 | (c >> 12 & 0x3f)),
          byte(0x80 | (c >> 6 & 0x3f)), byte(0x80 | (c & 0x3f))};
}

TEST(Utf8Test, ReadsEveryCodePointAndSeesEveryCut) {
  for (char32_t c = 0; c <= 0x110fff; ++c) {
    const std::string text = Encode(c);
    const Utf8Char found = FirstUtf8Char(text);
    const bool surrogate = c >= 0xd800 && c <= 0xdfff;
    if (surrogate || c > 0x10ffff) {
      ASSERT_EQ(found.kind, Kind::kMalformed) << std::hex << int64_t{c};
      continue;
    }
    ASSERT_EQ(found.kind, Kind::kWhole) << std::hex << int64_t{c};
    ASSERT_EQ(found.bytes, static_cast<int64_t>(text.size()));
    ASSERT_EQ(found.code_point, c);
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const Utf8Char part = FirstUtf8Char(text.substr(0, cut));
      ASSERT_EQ(part.kind, Kind::kIncomplete) << std::hex << int64_t{c};
      ASSERT_EQ(part.bytes, static_cast<int64_t>(cut));
    }
  }
}

TEST(Utf8Test, RefusesMalformedBytes) {
  for (const char* text :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80",
        "\xff", "\xc3(", "\xe2\x82(", "\xf0\x9f\x98("}) {
    EXPECT_EQ(FirstUtf8Char(text).kind, Kind::kMalformed) << text;
  }
  EXPECT_EQ(FirstUtf8Char("\xe2\x82(").bytes, 2);
}

TEST(Utf8Test, MeasuresThePrefixOfWholeCharacters) {
  const Utf8Prefix whole = WholeUtf8Chars("gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(whole.whole_bytes, 6);
  EXPECT_FALSE(whole.cut);
  const Utf8Prefix cut = WholeUtf8Chars("gr\xc3\xbc\xc3");
  EXPECT_EQ(cut.whole_bytes, 4);
  EXPECT_TRUE(cut.cut);
  const Utf8Prefix malformed = WholeUtf8Chars("gr\xc3\xbc\xff\xc3");
  EXPECT_EQ(malformed.whole_bytes, 4);
  EXPECT_FALSE(malformed.cut);
  EXPECT_EQ(WholeUtf8Chars("").whole_bytes, 0);
}

TEST(Utf8Test, WhatIsAppendedReadsBack) {
  for (const char32_t c :
       {U'\0', U'a', U'\x7f', U'\x80', U'\x7ff', U'\x800', U'\ud7ff', U'\ue000',
        U'\uffff', U'\U00010000', U'\U0010ffff'}) {
    std::string text;
    AppendUtf8(c, text);
    const Utf8Char read = FirstUtf8Char(text);
    EXPECT_EQ(read.kind, Kind::kWhole);
    EXPECT_EQ(read.bytes, static_cast<int64_t>(text.size()));
    EXPECT_EQ(read.code_point, c);
  }
}

}  // namespace
}  // namespace mneme
