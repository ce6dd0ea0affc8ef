// SPDX-License-Identifier: Apache-2.0
#include "engine/base/sha256.h"

#include <string>
#include <string_view>
#include <utility>

#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr char kOfNothing[] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr char kOfAbc[] =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

std::string Digest(std::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.HexDigest();
}

// The example messages that the standard's authors publish for FIPS 180-4.
TEST(Sha256Test, GivesTheValuesOfTheStandard) {
  EXPECT_EQ(Digest(""), kOfNothing);
  EXPECT_EQ(Digest("abc"), kOfAbc);
  EXPECT_EQ(Digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Digest("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                   "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(Digest(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, AnyCutGivesTheDigestOfTheWhole) {
  std::string bytes;
  for (int i = 0; i < 130; ++i) bytes.push_back(static_cast<char>(i * 7));
  const std::string whole = Digest(bytes);
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    Sha256 hash;
    hash.Update(std::string_view(bytes).substr(0, cut));
    hash.Update(std::string_view(bytes).substr(cut));
    EXPECT_EQ(hash.HexDigest(), whole) << "cut at " << cut;
  }
}

TEST(Sha256Test, ADigestInBetweenDisturbsNothing) {
  Sha256 hash;
  EXPECT_EQ(hash.HexDigest(), kOfNothing);
  hash.Update("ab");
  EXPECT_EQ(hash.HexDigest(), Digest("ab"));
  EXPECT_EQ(hash.HexDigest(), Digest("ab"));
  hash.Update("c");
  EXPECT_EQ(hash.HexDigest(), kOfAbc);
}

TEST(Sha256Test, MovingTakesTheBytesSoFarAlong) {
  Sha256 first;
  first.Update("a");
  Sha256 second = std::move(first);
  second.Update("b");
  Sha256 third;
  third.Update("forgotten");
  third = std::move(second);
  third.Update("c");
  EXPECT_EQ(third.HexDigest(), kOfAbc);
}

TEST(Sha256Test, AnIntegerCountsAsItsEightBytesLowestFirst) {
  Sha256 hash;
  hash.UpdateInt64(0x0102030405060708);
  hash.UpdateInt64(-1);
  EXPECT_EQ(hash.HexDigest(), Digest("\x08\x07\x06\x05\x04\x03\x02\x01"
                                     "\xff\xff\xff\xff\xff\xff\xff\xff"));
}

}  // namespace
}  // namespace mneme
