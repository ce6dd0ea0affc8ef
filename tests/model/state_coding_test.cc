// SPDX-License-Identifier: Apache-2.0
//
// A state that was written and read goes on as if nothing had been, whatever
// the mixer and wherever its history stands.
#include <memory>
#include <string>
#include <vector>

#include "engine/base/coding.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/tools/presets.h"
#include "gtest/gtest.h"
#include "tests/model/loaded_model.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using absl::StatusCode;

std::string Encoded(const SessionState& state) {
  std::string bytes;
  state.Encode(bytes);
  return bytes;
}

class StateCodingTest : public testing::TestWithParam<std::string> {
 protected:
  void Load(const ModelConfig& config, int64_t block_tokens) {
    ASSERT_THAT(WriteRandomModel(config, 5, dir_.path()), IsOk());
    model_ = std::make_unique<LoadedModel>(
        dir_.path(), MakeCpuBackend(1),
        ModelOptions{.block_tokens = block_tokens});
  }

  // Takes tokens as a session does: whole blocks, or what waits once an answer
  // is wanted. The logits of what was computed.
  std::vector<float> Take(SessionState& state, const Tokens& tokens, bool ask) {
    std::vector<float> logits;
    for (const int32_t token : tokens) {
      state.PushToken(token);
      if (state.tail_room() == 0) Compute(state, logits);
    }
    if (ask) {
      state.Ask();
      Compute(state, logits);
    }
    return logits;
  }
  void Compute(SessionState& state, std::vector<float>& logits) {
    const auto rows = static_cast<int64_t>(state.tail().size());
    if (rows == 0) return;
    const std::vector<float> some = model_->Forward(
        state.stepped() ? ComputePath::kStep : ComputePath::kBlock,
        {{.state = &state, .tokens = state.tail(), .logits_end = rows}});
    logits.insert(logits.end(), some.begin(), some.end());
    state.Commit();
  }

  // The state of `length` tokens; asked for output `asked` before its end, if
  // it is that long.
  std::unique_ptr<SessionState> StateOf(int length, int asked) {
    auto state = model_->NewState();
    const Tokens tokens = RandomTokens(length, 1);
    const int first = asked <= length ? length - asked : length;
    Take(*state, {tokens.begin(), tokens.begin() + first}, asked <= length);
    Take(*state, {tokens.begin() + first, tokens.end()}, false);
    return state;
  }

  void ExpectTheSameFromHereOn(SessionState& state, int more) {
    const std::string bytes = Encoded(state);
    const auto decoded = model_->NewState();
    ASSERT_THAT((*model_)->DecodeState(bytes, *decoded), IsOk());
    ASSERT_EQ(model_->Digest(*decoded), model_->Digest(state));
    ASSERT_EQ(Encoded(*decoded), bytes);
    const Tokens tokens = RandomTokens(more, 2);
    for (const bool ask : {false, true, true}) {
      ASSERT_EQ(Take(*decoded, tokens, ask), Take(state, tokens, ask));
      ASSERT_EQ(model_->Digest(*decoded), model_->Digest(state));
    }
  }

  TempDir dir_;
  std::unique_ptr<LoadedModel> model_;
};

TEST_P(StateCodingTest, EveryShortHistoryGoesOnBitForBit) {
  ModelConfig config = *PresetConfig(GetParam());
  // Windows, segments, memories and mini-batches that are full, and begin
  // again, within few tokens.
  config.ttt.mini_batch = std::min<int64_t>(config.ttt.mini_batch, 3);
  config.infini.segment = 6;
  config.attention.window = 6;
  config.attention.sinks = std::min<int64_t>(config.attention.sinks, 2);
  config.relative.memory = 6;
  config.relative.clamp = 3;
  ASSERT_NO_FATAL_FAILURE(Load(config, /*block_tokens=*/4));
  for (int length = 0; length < 26; ++length) {
    for (const int asked : {0, 1, 2, 3, 1000}) {
      SCOPED_TRACE(testing::Message() << length << " tokens, asked " << asked);
      const auto state = StateOf(length, asked);
      ASSERT_NO_FATAL_FAILURE(ExpectTheSameFromHereOn(*state, 5));
    }
  }
}

TEST_P(StateCodingTest, SoDoLongOnesOfThePresetItself) {
  ASSERT_NO_FATAL_FAILURE(Load(*PresetConfig(GetParam()), kBlockRows));
  for (const int length : {1, 63, 64, 100, 129, 200, 1100}) {
    for (const int asked : {0, 5, 1000000}) {
      SCOPED_TRACE(testing::Message() << length << " tokens, asked " << asked);
      const auto state = StateOf(length, asked);
      ASSERT_NO_FATAL_FAILURE(ExpectTheSameFromHereOn(*state, 70));
    }
  }
}

TEST_P(StateCodingTest, AfterASegmentWasCommittedEarlyToo) {
  ASSERT_NO_FATAL_FAILURE(Load(*PresetConfig(GetParam()), kBlockRows));
  if (!(*model_)->commits_segments()) return;
  const auto state = StateOf(70, 0);
  model_->Forward(ComputePath::kStep,
                  {{.state = state.get(), .commit_segment = true}});
  state->Commit();
  ExpectTheSameFromHereOn(*state, 70);
}

TEST_P(StateCodingTest, AStateThatWasUsedBecomesTheOtherAllTheSame) {
  ASSERT_NO_FATAL_FAILURE(Load(*PresetConfig(GetParam()), kBlockRows));
  const auto state = StateOf(10, 0);
  const auto used = StateOf(300, 3);
  ASSERT_THAT((*model_)->DecodeState(Encoded(*state), *used), IsOk());
  const Tokens tokens = RandomTokens(200, 3);
  EXPECT_EQ(Take(*used, tokens, true), Take(*state, tokens, true));
  EXPECT_EQ(model_->Digest(*used), model_->Digest(*state));
}

TEST_P(StateCodingTest, WhatNoHistoryLeadsToIsRefused) {
  ASSERT_NO_FATAL_FAILURE(Load(*PresetConfig(GetParam()), kBlockRows));
  const auto state = StateOf(70, 5);
  const std::string bytes = Encoded(*state);
  const std::string as_made = Encoded(*model_->NewState());
  const auto decoded = model_->NewState();
  // The last waiting token is also the last recent one, before the rows of the
  // parts.
  const auto& layout = *(*model_)->layout();
  int64_t behind = layout.part_count() * 8;
  for (int64_t part = 0; part < layout.part_count(); ++part) {
    const PartSpec& spec = layout.part(part);
    behind += 4 * spec.row_floats *
              (spec.kind == PartKind::kRing
                   ? std::min(state->computed_tokens(), spec.rows)
                   : state->rows(part));
  }
  std::string unknown = bytes;
  EncodeFixed32(264 + 1000, &unknown[bytes.size() - behind - 70 * 4]);
  EXPECT_THAT((*model_)->DecodeState(unknown, *decoded),
              Fails(StatusCode::kDataLoss, "found token 1264"));
  EXPECT_EQ(Encoded(*decoded), as_made);

  for (int64_t part = 0; part < layout.part_count(); ++part) {
    if (layout.part(part).kind != PartKind::kAppended) continue;
    const auto shorter = *state->Clone();
    shorter->Replace(part, layout.part(part).rows > 64 ? 0 : 1);
    shorter->Commit();
    const absl::Status status =
        (*model_)->DecodeState(Encoded(*shorter), *decoded);
    // A segment may be shorter than the history says: it was committed early.
    if ((*model_)->commits_segments()) {
      EXPECT_THAT(status, IsOk());
    } else {
      EXPECT_THAT(status, Fails(StatusCode::kDataLoss, "has not the rows"));
      EXPECT_EQ(Encoded(*decoded), as_made);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryMixer, StateCodingTest,
                         testing::ValuesIn(TinyPresetNames()),
                         [](const auto& preset) {
                           std::string name = preset.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace mneme
