// SPDX-License-Identifier: Apache-2.0
#include "engine/base/coding.h"

#include <cstdint>
#include <string>

#include "gtest/gtest.h"

namespace mneme {
namespace {

std::string Fixed32(uint32_t value) {
  std::string bytes(4, '?');
  EncodeFixed32(value, bytes.data());
  return bytes;
}

std::string Fixed64(uint64_t value) {
  std::string bytes(8, '?');
  EncodeFixed64(value, bytes.data());
  return bytes;
}

TEST(CodingTest, TheLowestByteComesFirst) {
  EXPECT_EQ(Fixed32(0x89abcdef), std::string("\xef\xcd\xab\x89", 4));
  EXPECT_EQ(Fixed64(0x0123456789abcdef),
            std::string("\xef\xcd\xab\x89\x67\x45\x23\x01", 8));
  EXPECT_EQ(Fixed64(1), std::string("\x01\0\0\0\0\0\0\0", 8));
}

TEST(CodingTest, WhatWasEncodedDecodes) {
  for (int bit = 0; bit < 64; ++bit) {
    for (const int64_t delta : {-1, 0, 1}) {
      const uint64_t value =
          (uint64_t{1} << bit) + static_cast<uint64_t>(delta);
      EXPECT_EQ(DecodeFixed64(Fixed64(value).data()), value);
    }
  }
}

TEST(CodingTest, NumbersMayLieAtAnyAddress) {
  for (int offset = 0; offset < 8; ++offset) {
    char bytes[16] = {};
    EncodeFixed64(0xfedcba9876543210, bytes + offset);
    EXPECT_EQ(DecodeFixed64(bytes + offset), 0xfedcba9876543210);
  }
}

}  // namespace
}  // namespace mneme
