// SPDX-License-Identifier: Apache-2.0
#include "engine/state/session_state.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kBlock = 8;
constexpr char kFingerprint[] = "model";

// Parts of the layout below.
enum Part : int64_t { kWeights, kFactors, kWindow, kHidden };

class SessionStateTest : public testing::Test {
 protected:
  SessionStateTest()
      : layout_(std::make_shared<StateLayout>(StateSpec{
            .layers = {{{.name = "weights", .rows = 3, .row_floats = 5},
                        {.name = "factors",
                         .kind = PartKind::kAppended,
                         .rows = 4,
                         .row_floats = 2}},
                       {{.name = "window", .rows = 1, .row_floats = 3}}},
            .hidden_floats = 6,
            .block_tokens = kBlock})),
        state_(*SessionState::Create(layout_)) {}

  static int64_t Capacity(const SessionState& state, int64_t part) {
    return state.layout().part(part).rows *
           state.layout().part(part).row_floats;
  }
  // The rows that count.
  static std::vector<float> Contents(const SessionState& state, int64_t part) {
    const float* begin = state.contents(part);
    return {begin,
            begin + state.rows(part) * state.layout().part(part).row_floats};
  }
  std::vector<float> Contents(int64_t part) const {
    return Contents(*state_, part);
  }

  static void Replace(SessionState& state, int64_t part, float value,
                      int64_t rows) {
    std::fill_n(state.spare(part), rows * state.layout().part(part).row_floats,
                value);
    state.Replace(part, rows);
  }
  static void AppendRow(SessionState& state, int64_t part, float value) {
    const int64_t row_floats = state.layout().part(part).row_floats;
    std::fill_n(state.mutable_contents(part) + state.rows(part) * row_floats,
                row_floats, value);
    state.Append(part, 1);
  }
  static void Push(SessionState& state, int count) {
    for (int i = 0; i < count; ++i) state.PushToken(100 + i);
  }
  std::string Digest() const { return state_->Digest(kFingerprint); }

  // A unit that computes `tokens` tokens and changes every part.
  static void Advance(SessionState& state, int tokens, float value) {
    Push(state, tokens);
    Replace(state, kWeights, value, 3);
    AppendRow(state, kFactors, value);
    Replace(state, kWindow, value, 1);
    Replace(state, kHidden, value, 1);
    state.Commit();
  }

  std::shared_ptr<const StateLayout> layout_;
  std::unique_ptr<SessionState> state_;
};

TEST_F(SessionStateTest, ANewStateIsZerosWithoutHistory) {
  EXPECT_EQ(state_->position(), 0);
  EXPECT_EQ(state_->computed_tokens(), 0);
  EXPECT_THAT(state_->tail(), IsEmpty());
  EXPECT_FALSE(state_->stepped());
  EXPECT_EQ(state_->rows(kWeights), 3);
  EXPECT_EQ(state_->rows(kFactors), 0);
  EXPECT_EQ(state_->rows(kWindow), 1);
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    EXPECT_THAT(Contents(part), Each(0.0f)) << "part " << part;
  }
}

// -- The commit rule ---------------------------------------------------------

TEST_F(SessionStateTest, TheUnitSeesWhatItReplaced) {
  const float* before = state_->contents(kWeights);
  Replace(*state_, kWeights, 1.0f, 3);
  EXPECT_NE(state_->contents(kWeights), before);
  EXPECT_EQ(state_->contents(kWeights), state_->spare(kWeights));
  EXPECT_THAT(Contents(kWeights), Each(1.0f));
}

TEST_F(SessionStateTest, TheUnitSeesWhatItAppended) {
  AppendRow(*state_, kFactors, 1.0f);
  AppendRow(*state_, kFactors, 2.0f);
  EXPECT_EQ(state_->rows(kFactors), 2);
  EXPECT_THAT(Contents(kFactors), ElementsAre(1.0f, 1.0f, 2.0f, 2.0f));
}

TEST_F(SessionStateTest, AbandonForgetsReplacedAndAppendedParts) {
  Advance(*state_, 3, 1.0f);
  const std::string digest = Digest();

  Push(*state_, 2);
  const std::string with_tail = Digest();
  Replace(*state_, kWeights, 2.0f, 3);
  AppendRow(*state_, kFactors, 2.0f);
  AppendRow(*state_, kFactors, 2.0f);
  Replace(*state_, kWindow, 2.0f, 1);
  state_->Abandon();

  EXPECT_THAT(Contents(kWeights), Each(1.0f));
  EXPECT_THAT(Contents(kFactors), ElementsAre(1.0f, 1.0f));
  EXPECT_THAT(Contents(kWindow), Each(1.0f));
  EXPECT_EQ(Digest(), with_tail);
  EXPECT_NE(Digest(), digest);
}

TEST_F(SessionStateTest, AbandonKeepsTheTailWaiting) {
  Push(*state_, 3);
  state_->Abandon();
  EXPECT_EQ(state_->position(), 3);
  EXPECT_EQ(state_->computed_tokens(), 0);
  EXPECT_THAT(state_->tail(), ElementsAre(100, 101, 102));
}

TEST_F(SessionStateTest, CommitKeepsReplacedAndAppendedParts) {
  Push(*state_, 2);
  Replace(*state_, kWeights, 2.0f, 3);
  AppendRow(*state_, kFactors, 3.0f);
  state_->Commit();
  state_->Abandon();  // there is nothing left to forget
  EXPECT_THAT(Contents(kWeights), Each(2.0f));
  EXPECT_THAT(Contents(kFactors), ElementsAre(3.0f, 3.0f));
  EXPECT_EQ(state_->computed_tokens(), 2);
  EXPECT_THAT(state_->tail(), IsEmpty());
}

TEST_F(SessionStateTest, TheDigestCannotSeeAnOpenUnit) {
  Advance(*state_, 3, 1.0f);
  Push(*state_, 1);
  const std::string digest = Digest();
  Replace(*state_, kWeights, 2.0f, 3);
  Replace(*state_, kHidden, 2.0f, 1);
  AppendRow(*state_, kFactors, 2.0f);
  EXPECT_EQ(Digest(), digest);
  state_->Commit();
  EXPECT_NE(Digest(), digest);
}

TEST_F(SessionStateTest, ASecondReplaceInAUnitWritesOverTheFirst) {
  Replace(*state_, kWeights, 1.0f, 3);
  const float* first = state_->contents(kWeights);
  Replace(*state_, kWeights, 2.0f, 3);
  EXPECT_EQ(state_->contents(kWeights), first);
  EXPECT_THAT(Contents(kWeights), Each(2.0f));
  state_->Abandon();
  EXPECT_THAT(Contents(kWeights), Each(0.0f));
}

TEST_F(SessionStateTest, AUnitMayAppendToWhatItReplaced) {
  Advance(*state_, 1, 9.0f);
  Replace(*state_, kFactors, 1.0f, 1);
  AppendRow(*state_, kFactors, 2.0f);
  EXPECT_THAT(Contents(kFactors), ElementsAre(1.0f, 1.0f, 2.0f, 2.0f));
  state_->Abandon();
  EXPECT_THAT(Contents(kFactors), ElementsAre(9.0f, 9.0f));
}

TEST_F(SessionStateTest, AReplaceMayLeaveAnAppendedPartEmpty) {
  Advance(*state_, 1, 9.0f);
  state_->Replace(kFactors, 0);
  EXPECT_EQ(state_->rows(kFactors), 0);
  state_->Commit();
  EXPECT_EQ(state_->rows(kFactors), 0);
}

TEST_F(SessionStateTest, UnitsInARowGoBackAndForthBetweenTheBuffers) {
  for (int unit = 1; unit <= 5; ++unit) {
    const float* committed = state_->contents(kWeights);
    Replace(*state_, kWeights, 100.0f, 3);
    state_->Abandon();
    EXPECT_EQ(state_->contents(kWeights), committed);
    Replace(*state_, kWeights, static_cast<float>(unit), 3);
    state_->Commit();
    EXPECT_THAT(Contents(kWeights), Each(static_cast<float>(unit)));
  }
}

TEST_F(SessionStateTest, APartLongerThanABlockStartsOverInFront) {
  constexpr int64_t kRows = 3 * kBlock;
  const auto layout = std::make_shared<StateLayout>(
      StateSpec{.layers = {{{.name = "open",
                             .kind = PartKind::kAppended,
                             .rows = kRows,
                             .row_floats = 16}}},
                .hidden_floats = 16,
                .block_tokens = kBlock});
  EXPECT_EQ(layout->room(0, 0), kRows);
  EXPECT_EQ(layout->room(0, 1), kBlock);
  EXPECT_EQ(layout->total_floats(), (kRows + kBlock + 2) * 16);
  const auto state = *SessionState::Create(layout);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < kRows; ++i) AppendRow(*state, 0, 1.0f);
    state->Commit();
    Replace(*state, 0, 2.0f, kBlock - 1);
    AppendRow(*state, 0, 3.0f);
    state->Abandon();
    EXPECT_THAT(Contents(*state, 0), Each(1.0f));
    Replace(*state, 0, 2.0f, 1);
    state->Commit();
    EXPECT_EQ(state->rows(0), 1);
    AppendRow(*state, 0, 2.0f);
    state->Commit();
    EXPECT_EQ(state->rows(0), 2);
    EXPECT_THAT(Contents(*state, 0), Each(2.0f));
    Replace(*state, 0, 0.0f, 0);
    state->Commit();
  }
}

#ifndef NDEBUG
TEST_F(SessionStateTest, GoingBeyondAPartEndsADebugBuild) {
  EXPECT_DEATH(state_->Append(kFactors, 5), "check failed");
  EXPECT_DEATH(state_->Replace(kWeights, 4), "check failed");
  Push(*state_, kBlock);
  EXPECT_DEATH(state_->PushToken(1), "check failed");
}
#endif

// -- Clone -------------------------------------------------------------------

TEST_F(SessionStateTest, ACloneHasTheSameDigestAndContents) {
  Advance(*state_, 3, 1.0f);
  state_->Ask();
  Push(*state_, 2);
  const auto clone = state_->Clone();
  ASSERT_THAT(clone, IsOk());
  EXPECT_EQ((*clone)->Digest(kFingerprint), Digest());
  EXPECT_EQ((*clone)->position(), state_->position());
  EXPECT_EQ((*clone)->tail_room(), state_->tail_room());
  EXPECT_EQ((*clone)->stepped(), state_->stepped());
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    EXPECT_EQ(Contents(**clone, part), Contents(part));
  }
}

TEST_F(SessionStateTest, ACloneAndItsParentGoTheirOwnWays) {
  Advance(*state_, 3, 1.0f);
  Push(*state_, 1);
  const std::string digest = Digest();
  std::unique_ptr<SessionState> clone = *state_->Clone();

  Advance(*clone, 2, 2.0f);
  clone->Ask();
  EXPECT_EQ(Digest(), digest);
  EXPECT_THAT(Contents(kWeights), Each(1.0f));

  const std::string clone_digest = clone->Digest(kFingerprint);
  Advance(*state_, 2, 3.0f);
  EXPECT_EQ(clone->Digest(kFingerprint), clone_digest);
  EXPECT_THAT(Contents(*clone, kWeights), Each(2.0f));

  state_.reset();
  EXPECT_EQ(clone->Digest(kFingerprint), clone_digest);
}

TEST_F(SessionStateTest, ACloneTakenOfEitherBufferIsTheSame) {
  std::unique_ptr<SessionState> other = *SessionState::Create(layout_);
  Advance(*other, 1, 7.0f);
  other->Ask();
  Advance(*state_, 1, 7.0f);
  state_->Ask();
  // The same contents, in the other buffer.
  Replace(*other, kWeights, 7.0f, 3);
  other->Commit();
  ASSERT_EQ(other->Digest(kFingerprint), Digest());
  EXPECT_EQ((*other->Clone())->Digest(kFingerprint), Digest());
}

// -- Tokens ------------------------------------------------------------------

TEST_F(SessionStateTest, TheTailReachesToTheEndOfTheOpenBlock) {
  EXPECT_EQ(state_->tail_room(), kBlock);
  Push(*state_, 3);
  EXPECT_EQ(state_->tail_room(), kBlock - 3);
  state_->Commit();
  EXPECT_EQ(state_->tail_room(), kBlock - 3);
  Push(*state_, kBlock - 3);
  EXPECT_EQ(state_->tail_room(), 0);
  EXPECT_EQ(state_->position(), kBlock);
  state_->Commit();
  EXPECT_EQ(state_->tail_room(), kBlock);
  EXPECT_EQ(state_->position(), kBlock);
}

TEST_F(SessionStateTest, FillingTheTailNeverMovesIt) {
  for (SessionState* state : {state_.get(), (*state_->Clone()).release()}) {
    state->PushToken(1);
    const int32_t* tail = state->tail().data();
    Push(*state, kBlock - 1);
    EXPECT_EQ(state->tail().data(), tail);
    if (state != state_.get()) delete state;
  }
}

TEST_F(SessionStateTest, AnAskBeforeTheFirstTokenStepsNothing) {
  state_->Ask();
  EXPECT_FALSE(state_->stepped());
}

TEST_F(SessionStateTest, AnAskInsideABlockStepsItToItsEnd) {
  Push(*state_, 3);
  EXPECT_FALSE(state_->stepped());
  state_->Ask();
  EXPECT_TRUE(state_->stepped());
  state_->Commit();
  EXPECT_TRUE(state_->stepped());
  Push(*state_, kBlock - 4);
  state_->Commit();
  EXPECT_TRUE(state_->stepped());
  Push(*state_, 1);
  EXPECT_TRUE(state_->stepped());
  state_->Commit();
  EXPECT_FALSE(state_->stepped());
}

TEST_F(SessionStateTest, AnAskBetweenTwoBlocksStepsNeither) {
  Push(*state_, kBlock);
  state_->Commit();
  state_->Ask();
  EXPECT_FALSE(state_->stepped());
}

TEST_F(SessionStateTest, AnAskWhileAFullBlockWaitsStepsThatBlockOnly) {
  Push(*state_, kBlock);
  state_->Ask();
  EXPECT_TRUE(state_->stepped());
  state_->Commit();
  EXPECT_FALSE(state_->stepped());
}

TEST_F(SessionStateTest, AnAbandonedUnitStaysAsked) {
  Push(*state_, 3);
  state_->Ask();
  state_->Abandon();
  EXPECT_TRUE(state_->stepped());
}

TEST_F(SessionStateTest, HiddenIsTheLastPart) {
  Advance(*state_, 1, 4.0f);
  EXPECT_EQ(state_->hidden().size(), 6u);
  EXPECT_THAT(state_->hidden(), Each(4.0f));
}

// -- Recent tokens -----------------------------------------------------------

// The tokens at [begin, end) when the one at position p is p.
std::vector<int32_t> Range(int32_t begin, int32_t end) {
  std::vector<int32_t> tokens;
  for (int32_t token = begin; token < end; ++token) tokens.push_back(token);
  return tokens;
}

std::vector<int32_t> Recent(const SessionState& state, int64_t count) {
  std::vector<int32_t> tokens = {-7};
  state.CopyRecent(count, tokens);
  return tokens;
}

TEST_F(SessionStateTest, RecentTokensAreTheEndOfTheHistory) {
  EXPECT_THAT(Recent(*state_, 5), IsEmpty());
  for (int32_t position = 0; position < 2500; ++position) {
    if (state_->tail_room() == 0) state_->Commit();
    state_->PushToken(position);
    if (position % 3 == 0) state_->Commit();
    if (position % 50 != 0) continue;
    const int32_t end = position + 1;
    ASSERT_EQ(Recent(*state_, 5), Range(std::max(end - 5, 0), end));
    ASSERT_EQ(Recent(*state_, SessionState::kRecentTokens),
              Range(std::max(end - 1024, 0), end));
  }
  EXPECT_THAT(Recent(*state_, 0), IsEmpty());
}

TEST_F(SessionStateTest, AnAbandonedUnitLeavesItsTokensRecent) {
  Push(*state_, 3);
  state_->Abandon();
  EXPECT_THAT(Recent(*state_, 9), ElementsAre(100, 101, 102));
  state_->Commit();
  EXPECT_THAT(Recent(*state_, 9), ElementsAre(100, 101, 102));
}

TEST_F(SessionStateTest, ACloneKeepsItsOwnRecentTokens) {
  Push(*state_, 3);
  std::unique_ptr<SessionState> clone = *state_->Clone();
  clone->PushToken(7);
  state_->PushToken(8);
  EXPECT_THAT(Recent(*clone, 9), ElementsAre(100, 101, 102, 7));
  EXPECT_THAT(Recent(*state_, 9), ElementsAre(100, 101, 102, 8));
}

TEST_F(SessionStateTest, AClearedStateIsAsNewAndHasNothingRecent) {
  const std::string digest = Digest();
  Advance(*state_, 3, 1.0f);
  state_->Clear();
  EXPECT_THAT(Recent(*state_, 9), IsEmpty());
  EXPECT_EQ(Digest(), digest);
}

TEST_F(SessionStateTest, RecentTokensCountInTheDigestWhileTheyAreRecent) {
  std::unique_ptr<SessionState> other = *SessionState::Create(layout_);
  state_->PushToken(1);
  other->PushToken(2);
  state_->Commit();
  other->Commit();
  // Nothing but the ring tells them apart.
  for (int64_t position = 1; position < SessionState::kRecentTokens;
       ++position) {
    EXPECT_NE(Digest(), other->Digest(kFingerprint)) << position;
    for (SessionState* state : {state_.get(), other.get()}) {
      state->PushToken(5);
      state->Commit();
    }
  }
  EXPECT_NE(Digest(), other->Digest(kFingerprint));
  for (SessionState* state : {state_.get(), other.get()}) {
    state->PushToken(5);
    state->Commit();
  }
  EXPECT_EQ(Digest(), other->Digest(kFingerprint));
}

TEST_F(SessionStateTest, TheRingIsPartOfTheBytes) {
  EXPECT_GE(SessionState::BookkeepingBytes(*layout_),
            SessionState::kRecentTokens * 4 + kBlock * 4);
}

// -- Digest ------------------------------------------------------------------

TEST_F(SessionStateTest, ADigestIs64LowerCaseHexDigits) {
  EXPECT_THAT(Digest(), testing::MatchesRegex("[0-9a-f]+"));
  EXPECT_EQ(Digest().size(), 64u);
}

TEST_F(SessionStateTest, EqualHistoriesHaveEqualDigests) {
  std::unique_ptr<SessionState> other = *SessionState::Create(layout_);
  for (SessionState* state : {state_.get(), other.get()}) {
    Advance(*state, 3, 1.0f);
    state->Ask();
    Push(*state, 2);
  }
  EXPECT_EQ(Digest(), other->Digest(kFingerprint));
}

TEST_F(SessionStateTest, EverythingThatIsRememberedCounts) {
  Advance(*state_, 3, 1.0f);
  Push(*state_, 2);

  // Each makes one difference to a copy of the state.
  const std::vector<std::pair<const char*, std::function<void(SessionState&)>>>
      differences = {
          {"none", [](SessionState&) {}},
          {"one more waiting token", [](SessionState& s) { s.PushToken(7); }},
          {"another waiting token", [](SessionState& s) { s.PushToken(8); }},
          {"stepped", [](SessionState& s) { s.Ask(); }},
          {"position", [](SessionState& s) { s.Commit(); }},
          {"a weight",
           [](SessionState& s) { s.mutable_contents(kWeights)[14] = 2.0f; }},
          {"a weight's sign, at zero",
           [](SessionState& s) { s.mutable_contents(kWeights)[0] = -0.0f; }},
          {"a weight, to zero",
           [](SessionState& s) { s.mutable_contents(kWeights)[0] = 0.0f; }},
          {"a factor",
           [](SessionState& s) { s.mutable_contents(kFactors)[1] = 2.0f; }},
          {"a window value",
           [](SessionState& s) { s.mutable_contents(kWindow)[2] = 2.0f; }},
          {"a hidden value",
           [](SessionState& s) { s.mutable_contents(kHidden)[5] = 2.0f; }}};
  std::set<std::string> digests;
  for (const auto& [name, make_different] : differences) {
    std::unique_ptr<SessionState> copy = *state_->Clone();
    make_different(*copy);
    EXPECT_TRUE(digests.insert(copy->Digest(kFingerprint)).second) << name;
  }
}

TEST_F(SessionStateTest, TheNumberOfRowsCounts) {
  std::unique_ptr<SessionState> other = *SessionState::Create(layout_);
  Push(*state_, 1);
  Push(*other, 1);
  AppendRow(*other, kFactors, 0.0f);  // as the unused capacity holds
  state_->Commit();
  other->Commit();
  EXPECT_NE(Digest(), other->Digest(kFingerprint));
}

TEST_F(SessionStateTest, WaitingTokensAreNotComputedTokens) {
  std::unique_ptr<SessionState> other = *SessionState::Create(layout_);
  Push(*state_, 2);
  Push(*other, 2);
  other->Commit();
  EXPECT_EQ(state_->position(), other->position());
  EXPECT_NE(Digest(), other->Digest(kFingerprint));
}

TEST_F(SessionStateTest, TheOrderOfWaitingTokensCounts) {
  std::unique_ptr<SessionState> other = *SessionState::Create(layout_);
  state_->PushToken(1);
  state_->PushToken(2);
  other->PushToken(2);
  other->PushToken(1);
  EXPECT_NE(Digest(), other->Digest(kFingerprint));
}

TEST_F(SessionStateTest, AnotherModelGivesAnotherDigest) {
  EXPECT_NE(state_->Digest("model"), state_->Digest("another"));
}

TEST_F(SessionStateTest, UnusedCapacityNeverCounts) {
  Advance(*state_, 3, 1.0f);
  const std::string digest = Digest();
  std::fill_n(state_->mutable_contents(kFactors) + 2,
              Capacity(*state_, kFactors) - 2, 55.0f);
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    std::fill_n(state_->spare(part), Capacity(*state_, part), 55.0f);
  }
  EXPECT_EQ(Digest(), digest);
  EXPECT_EQ((*state_->Clone())->Digest(kFingerprint), digest);
}

TEST_F(SessionStateTest, WhichBufferHoldsThePartNeverCounts) {
  std::unique_ptr<SessionState> other = *SessionState::Create(layout_);
  Push(*state_, 1);
  Push(*other, 1);
  Replace(*state_, kWeights, 1.0f, 3);
  state_->Commit();
  Replace(*other, kWeights, 5.0f, 3);
  other->Commit();
  Replace(*other, kWeights, 1.0f, 3);
  other->Commit();
  EXPECT_EQ(Digest(), other->Digest(kFingerprint));
}

}  // namespace
}  // namespace mneme
