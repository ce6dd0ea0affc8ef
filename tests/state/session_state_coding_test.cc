// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/coding.h"
#include "engine/base/files.h"
#include "engine/state/session_state.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/golden_state.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using absl::StatusCode;

constexpr char kFingerprint[] = "model";

std::string Encoded(const SessionState& state) {
  std::string bytes;
  state.Encode(bytes);
  return bytes;
}

std::unique_ptr<SessionState> NewState() {
  return *SessionState::Create(GoldenLayout());
}

// Where the numbers of an encoded golden state begin: those before describe the
// layout.
size_t HeadBytes() {
  const std::string empty = Encoded(*NewState());
  // computed, stepped, two empty lists, five row counts, weights and hidden
  return empty.size() - (8 + 1 + 8 + 8 + 5 * 8 + (6 + 2) * 4);
}

TEST(SessionStateCodingTest, AStateIsItsBytesAtEveryLength) {
  const auto state = NewState();
  for (int position = 0; position < 40; ++position) {
    for (const int waiting : {0, 1}) {
      if (waiting > state->tail_room()) continue;
      for (const bool ask : {false, true}) {
        const auto original = *state->Clone();
        for (int i = 0; i < waiting; ++i) original->PushToken(7 + i);
        if (ask) original->Ask();
        const std::string bytes = Encoded(*original);
        EXPECT_EQ(static_cast<int64_t>(bytes.size()), original->EncodedBytes());
        const auto decoded = NewState();
        ASSERT_THAT(decoded->Decode(bytes), IsOk());
        EXPECT_EQ(decoded->Digest(kFingerprint),
                  original->Digest(kFingerprint));
        EXPECT_EQ(Encoded(*decoded), bytes);
        EXPECT_EQ(decoded->stepped(), original->stepped());
        EXPECT_EQ(decoded->tail_room(), original->tail_room());
        if (waiting > 0) continue;
        for (int i = 0; i < 12; ++i) {
          AddGoldenToken(*original);
          AddGoldenToken(*decoded);
          ASSERT_EQ(decoded->Digest(kFingerprint),
                    original->Digest(kFingerprint));
        }
      }
    }
    AddGoldenToken(*state);
  }
}

TEST(SessionStateCodingTest, TheRecentTokensAreThoseThatWere) {
  const auto decoded = NewState();
  ASSERT_THAT(decoded->Decode(Encoded(*GoldenState())), IsOk());
  std::vector<int32_t> tokens;
  decoded->CopyRecent(3, tokens);
  EXPECT_THAT(tokens, testing::ElementsAre(1128, 1129, 7));
  decoded->CopyRecent(SessionState::kRecentTokens, tokens);
  EXPECT_EQ(tokens.front(), 107);
}

TEST(SessionStateCodingTest, AnOpenUnitLeavesNoTrace) {
  const auto state = GoldenState();
  const std::string bytes = Encoded(*state);
  state->Replace(0, 2);
  state->Append(1, 1);
  EXPECT_EQ(Encoded(*state), bytes);
}

TEST(SessionStateCodingTest, WhichBufferHoldsAPartLeavesNoTrace) {
  const auto state = NewState();
  for (int i = 0; i < 5; ++i) AddGoldenToken(*state);
  const std::string bytes = Encoded(*state);
  std::copy_n(state->contents(0), 6, state->spare(0));
  state->Replace(0, 2);
  state->Commit();
  EXPECT_EQ(Encoded(*state), bytes);
}

TEST(SessionStateCodingTest, TheBytesOfVersion1StayTheSame) {
  const absl::StatusOr<std::string> golden = ReadSmallFile(
      std::string(MNEME_TEST_DATA) + "/state/state_v1.bin", 1 << 20);
  ASSERT_THAT(golden, IsOk());
  EXPECT_EQ(Encoded(*GoldenState()), *golden);
  const auto decoded = NewState();
  ASSERT_THAT(decoded->Decode(*golden), IsOk());
  EXPECT_EQ(decoded->Digest(kFingerprint), GoldenState()->Digest(kFingerprint));
}

// -- What is refused
// -----------------------------------------------------------

TEST(SessionStateCodingTest, NoPieceOfAStateIsOne) {
  const std::string bytes = Encoded(*GoldenState());
  const std::string as_made = Encoded(*NewState());
  const auto state = NewState();
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_THAT(state->Decode(bytes.substr(0, size)),
                Fails(StatusCode::kDataLoss, "session state: "))
        << size;
  }
  EXPECT_THAT(state->Decode(bytes + '\0'), Fails(StatusCode::kDataLoss, ""));
  EXPECT_EQ(Encoded(*state), as_made);
}

TEST(SessionStateCodingTest, ABitThatFlipsIsAnErrorOrIsSeen) {
  const std::string bytes = Encoded(*GoldenState());
  const std::string as_made = Encoded(*NewState());
  auto state = NewState();
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      if (state->Decode(damaged).ok()) {
        ASSERT_EQ(Encoded(*state), damaged);
        state = NewState();
      } else if (bit == 0 && at % 16 == 0) {
        ASSERT_EQ(Encoded(*state), as_made);
      }
    }
  }
}

TEST(SessionStateCodingTest, AnotherLayoutIsNamed) {
  StateSpec spec = GoldenLayout()->spec();
  const auto refusal = [](const StateSpec& other) {
    const auto state =
        *SessionState::Create(std::make_shared<StateLayout>(other));
    return state->Decode(Encoded(*GoldenState()));
  };
  const std::vector<std::pair<const char*, std::function<void(StateSpec&)>>>
      others = {
          {"the block's number of tokens is 4, wanted 8",
           [](StateSpec& s) { s.block_tokens = 8; }},
          {"the number of parts is 5, wanted 4",
           [](StateSpec& s) { s.layers[1].pop_back(); }},
          {"layer 0: part 1 is \"factors\" appended [4,2], "
           "wanted \"factors\" appended [5,2]",
           [](StateSpec& s) { s.layers[0][1].rows = 5; }},
          {"layer 1: part 0 is \"ring\" ring [3,2], wanted \"ring\" ring [3,4]",
           [](StateSpec& s) { s.layers[1][0].row_floats = 4; }},
          {"wanted \"memory\" rewritten [2,3]",
           [](StateSpec& s) { s.layers[0][0].name = "memory"; }},
          {"is \"weights\" rewritten [2,3], wanted \"weights\" ring [2,3]",
           [](StateSpec& s) { s.layers[0][0].kind = PartKind::kRing; }},
          {"is \"sinks\" appended [2,1] that stays, wanted",
           [](StateSpec& s) { s.layers[1][1].starts_over = true; }},
          {"the hidden part is", [](StateSpec& s) { s.hidden_floats = 3; }}};
  for (const auto& [message, change] : others) {
    StateSpec other = spec;
    change(other);
    const absl::Status status = refusal(other);
    EXPECT_THAT(status, Fails(StatusCode::kFailedPrecondition, message));
    EXPECT_THAT(status, HasReason("STATE_INCOMPATIBLE"));
  }
}

TEST(SessionStateCodingTest, ANewerVersionIsNotDamaged) {
  std::string bytes = Encoded(*GoldenState());
  bytes[0] = 2;
  EXPECT_THAT(NewState()->Decode(bytes),
              Fails(StatusCode::kFailedPrecondition, "version is 2, wanted 1"));
  bytes[0] = 0;
  EXPECT_THAT(NewState()->Decode(bytes), Fails(StatusCode::kDataLoss, ""));
}

TEST(SessionStateCodingTest, NumbersThatNoStateHasAreRefused) {
  const std::string bytes = Encoded(*GoldenState());
  const size_t head = HeadBytes();
  // Of the golden state: 1 waiting, 1024 recent tokens.
  const size_t tail = head + 8 + 1;
  const size_t recent = tail + 8 + 4;
  const size_t rows = recent + 8 + 1024 * 4;
  const struct {
    const char* message;
    size_t at;
    int64_t value;
  } wrongs[] = {
      {"last tokens of a history", head, 3},
      {"which no block has", head, int64_t{1} << 60},
      {"torn", head, -1},
      {"torn", tail, 5},
      {"torn", recent, 1025},
      {"layer 0: part 0 has 1 rows, wanted 2", rows, 1},
      {"layer 0: part 1 has 5 rows", rows + 8, 5},
      {"layer 1: part 0 has 2 rows, wanted 3", rows + 16, 2},
      {"layer 1: part 1 has 3 rows", rows + 24, 3},
      {"the hidden part has 0 rows", rows + 32, 0},
      {"bytes of parts", rows + 8, 0},
  };
  for (const auto& wrong : wrongs) {
    std::string damaged = bytes;
    EncodeFixed64(static_cast<uint64_t>(wrong.value), &damaged[wrong.at]);
    EXPECT_THAT(NewState()->Decode(damaged),
                Fails(StatusCode::kDataLoss, wrong.message));
  }
  std::string another_tail = bytes;
  another_tail[tail + 8] = 8;
  EXPECT_THAT(NewState()->Decode(another_tail),
              Fails(StatusCode::kDataLoss, "that are not the last ones"));
}

TEST(SessionStateCodingTest, OnlyAnOpenBlockCanBeStepped) {
  std::string bytes = Encoded(*NewState());
  bytes[HeadBytes() + 8] = 1;
  EXPECT_THAT(NewState()->Decode(bytes),
              Fails(StatusCode::kDataLoss, "stepped block without a token"));
}

}  // namespace
}  // namespace mneme
