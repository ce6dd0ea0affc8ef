// SPDX-License-Identifier: Apache-2.0
#include "client/crc32c.h"

#include <gtest/gtest.h>

#include <vector>

namespace mneme::client {
namespace {

// RFC 3720, appendix B.4, and the usual check value.
TEST(Crc32cTest, AgreesWithPublishedValues) {
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
}

TEST(Crc32cTest, TokensCountAsLittleEndianIntegers) {
  const std::vector<int32_t> ids = {1, 0x04030201, -1};
  const std::string bytes("\x01\0\0\0\x01\x02\x03\x04\xff\xff\xff\xff", 12);
  EXPECT_EQ(Crc32c(ids), Crc32c(bytes));
}

}  // namespace
}  // namespace mneme::client
