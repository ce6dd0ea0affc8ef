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

// -- Saving ------------------------------------------------------------------

// `count` bytes, no two neighbouring blocks of them equal.
std::string SomeBytes(int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes.push_back(static_cast<char>(i * 7 + 1));
  return bytes;
}

TEST(Sha256Test, ARestoredOneGoesOnFromAnyLength) {
  const std::string bytes = SomeBytes(400);
  for (int length = 0; length <= 200; ++length) {
    Sha256 hash;
    hash.Update(std::string_view(bytes).substr(0, length));
    const std::string saved = hash.Save();
    ASSERT_EQ(static_cast<int64_t>(saved.size()), Sha256::kSavedBytes);
    absl::optional<Sha256> restored = Sha256::Restore(saved);
    ASSERT_TRUE(restored.has_value()) << length;
    EXPECT_EQ(restored->bytes(), static_cast<uint64_t>(length));
    EXPECT_EQ(restored->Save(), saved) << length;
    EXPECT_EQ(restored->HexDigest(), Digest(bytes.substr(0, length)));
    restored->Update(std::string_view(bytes).substr(length));
    EXPECT_EQ(restored->HexDigest(), Digest(bytes)) << length;
  }
}

TEST(Sha256Test, TheSavedFormIsTheSameWhateverCameBefore) {
  Sha256 at_once;
  at_once.Update(SomeBytes(130));
  Sha256 in_pieces;
  for (const char c : SomeBytes(130)) in_pieces.Update({&c, 1});
  EXPECT_EQ(at_once.Save(), in_pieces.Save());
}

TEST(Sha256Test, NoOtherFormIsRestored) {
  Sha256 hash;
  hash.Update(SomeBytes(70));
  const std::string saved = hash.Save();
  EXPECT_FALSE(Sha256::Restore("").has_value());
  EXPECT_FALSE(Sha256::Restore(saved.substr(1)).has_value());
  EXPECT_FALSE(Sha256::Restore(saved + '\0').has_value());
  std::string behind = saved;
  behind[40 + 6] = 1;  // the open block has six bytes
  EXPECT_FALSE(Sha256::Restore(behind).has_value());
  std::string chained = Sha256().Save();
  chained[8] = 0;
  EXPECT_FALSE(Sha256::Restore(chained).has_value());
  std::string endless = saved;
  endless[7] = static_cast<char>(0xff);
  EXPECT_FALSE(Sha256::Restore(endless).has_value());
}

TEST(Sha256Test, ADigestIsItsHexDigitsAsBytes) {
  const std::string digest = Sha256().Digest();
  ASSERT_EQ(digest.size(), 32u);
  EXPECT_EQ(digest.substr(0, 4), "\xe3\xb0\xc4\x42");
}

TEST(Sha256Test, ACopyGoesItsOwnWay) {
  Sha256 first;
  first.Update("ab");
  Sha256 second = first;
  first.Update("c");
  second.Update("d");
  EXPECT_EQ(first.HexDigest(), kOfAbc);
  EXPECT_EQ(second.HexDigest(), Digest("abd"));
}

}  // namespace
}  // namespace mneme
