// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/history.h"

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using Match = History::Match;

constexpr int64_t kKept = History::kKeptBytes;

std::string RandomBytes(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes(count, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

std::string WithChange(std::string bytes, size_t at) {
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  return bytes;
}

TEST(HistoryTest, ANewHistoryIsEmpty) {
  const History history(SessionUnit::kText);
  EXPECT_EQ(history.next_offset(), 0);
  // SHA-256 of nothing.
  EXPECT_EQ(history.Digest(),
            "e3b0c44298fc1c149afbf4c8996fb924"
            "27ae41e4649b934ca495991b7852b855");
}

TEST(HistoryTest, OffsetsCountBytesOfTextAndTokensOfTokens) {
  History text(SessionUnit::kText);
  text.Add("hello");
  text.Add("");
  EXPECT_EQ(text.next_offset(), 5);
  EXPECT_EQ(text.unit_bytes(), 1);

  History tokens(SessionUnit::kTokens);
  tokens.Add(TokenBytes({1, 2, 3}));
  EXPECT_EQ(tokens.next_offset(), 3);
  EXPECT_EQ(tokens.unit_bytes(), 4);
}

TEST(HistoryTest, TheDigestIsOfTheBytesHoweverTheyCame) {
  const std::string bytes = RandomBytes(3 * kKept + 17, 1);
  History whole(SessionUnit::kText);
  whole.Add(bytes);
  for (const size_t piece : {size_t{1000}, size_t{65'536}, size_t{70'001}}) {
    History history(SessionUnit::kText);
    for (size_t at = 0; at < bytes.size(); at += piece) {
      history.Add(std::string_view(bytes).substr(at, piece));
    }
    EXPECT_EQ(history.Digest(), whole.Digest());
    EXPECT_EQ(history.next_offset(), whole.next_offset());
  }
  History other(SessionUnit::kText);
  other.Add(WithChange(bytes, 0));
  EXPECT_NE(other.Digest(), whole.Digest());
}

TEST(HistoryTest, ARepeatedPieceIsRecognisedWhereverItLies) {
  const std::string bytes = RandomBytes(40, 2);
  History history(SessionUnit::kText);
  history.Add(bytes);
  for (size_t begin = 0; begin < bytes.size(); ++begin) {
    for (size_t size = 1; begin + size <= bytes.size(); ++size) {
      const std::string piece = bytes.substr(begin, size);
      const auto offset = static_cast<int64_t>(begin);
      EXPECT_EQ(history.Compare(offset, piece), Match::kSame);
      EXPECT_EQ(history.Compare(offset, WithChange(piece, 0)),
                Match::kDifferent);
      EXPECT_EQ(history.Compare(offset, WithChange(piece, size - 1)),
                Match::kDifferent);
    }
  }
}

TEST(HistoryTest, OffsetsOfTokensAreCompared) {
  History history(SessionUnit::kTokens);
  history.Add(TokenBytes({10, 20, 30}));
  EXPECT_EQ(history.Compare(1, TokenBytes({20, 30})), Match::kSame);
  EXPECT_EQ(history.Compare(1, TokenBytes({30})), Match::kDifferent);
  EXPECT_EQ(history.Compare(2, TokenBytes({30})), Match::kSame);
}

// What is kept of a long history, whatever the pieces it came in.
TEST(HistoryTest, TheLastBytesAreKeptAndOlderOnesAreTooOld) {
  const std::string bytes = RandomBytes(3 * kKept + 1234, 3);
  const auto total = static_cast<int64_t>(bytes.size());
  const int64_t oldest = total - kKept;
  for (const int64_t piece :
       {int64_t{777}, kKept - 1, kKept, kKept + 1, 2 * kKept + 5, total}) {
    History history(SessionUnit::kText);
    for (int64_t at = 0; at < total; at += piece) {
      history.Add(std::string_view(bytes).substr(at, piece));
    }
    auto part = [&](int64_t begin, int64_t end) {
      return bytes.substr(begin, end - begin);
    };
    // All that is kept, its two ends, and across the end of the ring.
    EXPECT_EQ(history.Compare(oldest, part(oldest, total)), Match::kSame);
    EXPECT_EQ(history.Compare(oldest, part(oldest, oldest + 1)), Match::kSame);
    EXPECT_EQ(history.Compare(total - 1, part(total - 1, total)), Match::kSame);
    EXPECT_EQ(
        history.Compare(3 * kKept - 9, part(3 * kKept - 9, 3 * kKept + 9)),
        Match::kSame);
    EXPECT_EQ(
        history.Compare(3 * kKept - 9,
                        WithChange(part(3 * kKept - 9, 3 * kKept + 9), 9)),
        Match::kDifferent);
    // Older: not compared.
    EXPECT_EQ(history.Compare(oldest - 1, part(oldest - 1, oldest)),
              Match::kTooOld);
    EXPECT_EQ(history.Compare(0, part(0, 5)), Match::kTooOld);
    EXPECT_EQ(history.Compare(0, part(0, oldest)), Match::kTooOld);
    // Reaching into what is kept: too old as well, unless that part differs.
    EXPECT_EQ(history.Compare(oldest - 5, part(oldest - 5, oldest + 5)),
              Match::kTooOld);
    EXPECT_EQ(history.Compare(oldest - 5,
                              WithChange(part(oldest - 5, oldest + 5), 0)),
              Match::kTooOld);
    EXPECT_EQ(history.Compare(oldest - 5,
                              WithChange(part(oldest - 5, oldest + 5), 5)),
              Match::kDifferent);
    EXPECT_EQ(history.Compare(0, bytes), Match::kTooOld);
  }
}

TEST(HistoryTest, NothingIsTooOldUntilTheRingIsFull) {
  const std::string bytes = RandomBytes(kKept, 4);
  History history(SessionUnit::kText);
  history.Add(bytes);
  EXPECT_EQ(history.Compare(0, bytes), Match::kSame);
  history.Add("x");
  EXPECT_EQ(history.Compare(0, bytes.substr(0, 1)), Match::kTooOld);
  EXPECT_EQ(history.Compare(1, bytes.substr(1) + "x"), Match::kSame);
}

TEST(TokenBytesTest, AnIdIsFourBytesLowestFirst) {
  EXPECT_EQ(TokenBytes({}), "");
  EXPECT_EQ(TokenBytes({1, 0x04030201, -1}),
            std::string("\x01\0\0\0\x01\x02\x03\x04\xff\xff\xff\xff", 12));
}

TEST(PayloadBytesTest, TextIsItselfAndTokensAreTheirIds) {
  const std::string text("a\0b", 3);
  EXPECT_EQ(PayloadBytes(Payload(text)), text);
  EXPECT_EQ(PayloadBytes(Payload(std::vector<int32_t>{7})), TokenBytes({7}));
}

// -- As bytes ----------------------------------------------------------------

std::string Encoded(const History& history) {
  std::string bytes;
  history.Encode(bytes);
  return bytes;
}

TEST(HistoryTest, ADecodedHistoryGoesOnAsTheOther) {
  for (const int64_t length :
       {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{64}, int64_t{65},
        kKept - 1, kKept, kKept + 1, 2 * kKept, 2 * kKept + 77}) {
    History history(SessionUnit::kText);
    history.Add(RandomBytes(length / 3, 1));
    history.Add(RandomBytes(length - length / 3, 2));
    const std::string bytes = Encoded(history);
    absl::StatusOr<History> decoded = History::Decode(bytes);
    ASSERT_THAT(decoded, IsOk()) << length;
    EXPECT_EQ(Encoded(*decoded), bytes);
    EXPECT_EQ(decoded->next_offset(), length);
    EXPECT_EQ(decoded->Digest(), history.Digest());
    const std::string more = RandomBytes(100, 3);
    history.Add(more);
    decoded->Add(more);
    EXPECT_EQ(decoded->Digest(), history.Digest());
    EXPECT_EQ(decoded->Compare(length, more), Match::kSame);
    EXPECT_EQ(Encoded(*decoded), Encoded(history));
  }
}

TEST(HistoryTest, ADecodedHistoryComparesWhatIsKept) {
  const std::string given = RandomBytes(kKept + 100, 4);
  History history(SessionUnit::kText);
  history.Add(given);
  const absl::StatusOr<History> decoded = History::Decode(Encoded(history));
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->Compare(100, given.substr(100)), Match::kSame);
  EXPECT_EQ(decoded->Compare(100, WithChange(given.substr(100), 5000)),
            Match::kDifferent);
  EXPECT_EQ(decoded->Compare(99, given.substr(99)), Match::kTooOld);
}

TEST(HistoryTest, TokensStayTokens) {
  History history(SessionUnit::kTokens);
  history.Add(TokenBytes({1, 2, 3}));
  std::string bytes = Encoded(history);
  const absl::StatusOr<History> decoded = History::Decode(bytes);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->unit(), SessionUnit::kTokens);
  EXPECT_EQ(decoded->next_offset(), 3);
  bytes[1] = 11;  // bytes of history
  bytes.pop_back();
  EXPECT_THAT(History::Decode(bytes),
              Fails(absl::StatusCode::kDataLoss, "history: "));
}

TEST(HistoryTest, NoPieceOfAHistoryIsOne) {
  History history(SessionUnit::kText);
  history.Add(RandomBytes(200, 1));
  const std::string bytes = Encoded(history);
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_THAT(History::Decode(bytes.substr(0, size)),
                Fails(absl::StatusCode::kDataLoss, "history: "))
        << size;
  }
  EXPECT_THAT(History::Decode(bytes + "x"),
              Fails(absl::StatusCode::kDataLoss, "history: "));
}

}  // namespace
}  // namespace mneme
