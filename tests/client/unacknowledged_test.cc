// SPDX-License-Identifier: Apache-2.0
#include "client/unacknowledged.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/crc32c.h"

namespace mneme::client {
namespace {

using ::testing::ElementsAre;

TEST(HistoryDigestTest, IsSha256AndACopyGoesOnByItself) {
  HistoryDigest digest;
  digest.Add("ab");
  HistoryDigest copy = digest;
  copy.Add("c");
  // FIPS 180-2, appendix B.1.
  EXPECT_EQ(copy.Hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  digest.Add("c");
  EXPECT_EQ(digest.Hex(), copy.Hex());
}

TEST(UnacknowledgedTest, IsCutAnewAtAnyOffset) {
  Unacknowledged held(v1::Session::TEXT);
  held.StartAt(100);
  held.Add("abcdef");
  EXPECT_EQ(held.end(), 106);
  EXPECT_EQ(held.Cut(100, 4).text(), "abcd");
  EXPECT_EQ(held.Cut(104, 4).text(), "ef");
  EXPECT_EQ(held.Cut(104, 4).offset(), 104);
  held.FreeBefore(103);
  held.FreeBefore(101);  // does nothing
  EXPECT_EQ(held.begin(), 103);
  EXPECT_EQ(held.Cut(103, 9).text(), "def");
  EXPECT_EQ(held.Cut(103, 9).crc32c(), Crc32c("def"));
}

TEST(UnacknowledgedTest, TokensSurviveTheirBytes) {
  Unacknowledged held(v1::Session::TOKENS);
  held.Add(TokenBytes({0, 258, 2147483647, 7}));
  EXPECT_EQ(held.end(), 4);
  held.FreeBefore(1);
  const auto segment = held.Cut(1, 2);
  EXPECT_THAT(segment.tokens().ids(), ElementsAre(258, 2147483647));
  EXPECT_EQ(segment.crc32c(), Crc32c(std::vector<int32_t>{258, 2147483647}));
}

TEST(UnacknowledgedTest, TheDigestRemembersWhatWasFreed) {
  Unacknowledged held(v1::Session::TEXT);
  held.Add("abcd");
  held.FreeBefore(2);
  HistoryDigest digest;
  digest.Add("abc");
  EXPECT_EQ(held.DigestAt(3), digest.Hex());
}

}  // namespace
}  // namespace mneme::client
