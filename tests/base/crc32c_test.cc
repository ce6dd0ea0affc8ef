// SPDX-License-Identifier: Apache-2.0
#include "engine/base/crc32c.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

#include "gtest/gtest.h"

namespace mneme {
namespace {

// The definition, a bit at a time.
uint32_t BitwiseCrc32c(std::string_view bytes) {
  uint32_t crc = 0xffffffff;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
    }
  }
  return ~crc;
}

// RFC 3720, appendix B.4.
TEST(Crc32cTest, GivesTheValuesOfTheStandard) {
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string counting(32, '\0');
  for (int i = 0; i < 32; ++i) counting[i] = static_cast<char>(i);
  EXPECT_EQ(Crc32c(counting), 0x46dd794eu);
  std::reverse(counting.begin(), counting.end());
  EXPECT_EQ(Crc32c(counting), 0x113fdb5cu);
  const unsigned char read_command[48] = {
      0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
      0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  EXPECT_EQ(Crc32c({reinterpret_cast<const char*>(read_command), 48}),
            0xd9963a56u);
}

TEST(Crc32cTest, GivesTheCheckValueOfItsFamily) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
}

TEST(Crc32cTest, NothingHasTheValueZero) { EXPECT_EQ(Crc32c(""), 0u); }

TEST(Crc32cTest, AgreesWithTheDefinitionAtEveryAlignmentAndLength) {
  std::mt19937 random(1);
  std::string bytes(96, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  for (size_t begin = 0; begin < 16; ++begin) {
    for (size_t length = 0; length <= 80; ++length) {
      const std::string_view piece(bytes.data() + begin, length);
      ASSERT_EQ(Crc32cByTables(piece), BitwiseCrc32c(piece))
          << length << " bytes from " << begin;
      ASSERT_EQ(Crc32c(piece), BitwiseCrc32c(piece))
          << length << " bytes from " << begin;
    }
  }
}

TEST(Crc32cTest, AgreesWithTheDefinitionWhereLanesAreJoined) {
  std::mt19937 random(2);
  std::string bytes(20000, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  for (const size_t length :
       {6143, 6144, 6145, 6151, 6152, 12287, 12288, 12301, 20000}) {
    const std::string_view piece(bytes.data(), length);
    ASSERT_EQ(Crc32c(piece), BitwiseCrc32c(piece)) << length;
    ASSERT_EQ(ExtendCrc32c(Crc32c(piece.substr(0, 5)), piece.substr(5)),
              BitwiseCrc32c(piece))
        << length;
  }
}

TEST(Crc32cTest, BytesInPiecesHaveTheChecksumOfTheWhole) {
  const std::string bytes = "bytes in two pieces, cut anywhere";
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    EXPECT_EQ(ExtendCrc32c(Crc32c(bytes.substr(0, cut)), bytes.substr(cut)),
              Crc32c(bytes));
  }
}

TEST(Crc32cTest, EveryBitCounts) {
  std::string bytes(19, 'm');
  const uint32_t crc = Crc32c(bytes);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    EXPECT_NE(Crc32c(bytes), crc) << "bit " << bit;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
  }
}

}  // namespace
}  // namespace mneme
