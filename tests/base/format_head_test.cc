// SPDX-License-Identifier: Apache-2.0
#include "engine/base/format_head.h"

#include <string>

#include "gtest/gtest.h"

namespace mneme {
namespace {

std::string Head(uint32_t version) {
  std::string head;
  WriteFormatHead("MNEMEXYZ", version, head);
  return head;
}

TEST(FormatHeadTest, AVersionIsReadBack) {
  for (const uint32_t version : {0u, 1u, 77u, 0xffffffffu}) {
    EXPECT_EQ(static_cast<int64_t>(Head(version).size()), kFormatHeadBytes);
    EXPECT_EQ(ReadFormatHead("MNEMEXYZ", Head(version) + "more"), version);
  }
}

TEST(FormatHeadTest, NothingElseIsAHead) {
  const std::string head = Head(1);
  EXPECT_FALSE(ReadFormatHead("MNEMEABC", head).has_value());
  for (size_t size = 0; size < head.size(); ++size) {
    EXPECT_FALSE(ReadFormatHead("MNEMEXYZ", head.substr(0, size)).has_value());
  }
  for (size_t at = 0; at < head.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = head;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      EXPECT_FALSE(ReadFormatHead("MNEMEXYZ", damaged).has_value());
    }
  }
}

}  // namespace
}  // namespace mneme
