// SPDX-License-Identifier: Apache-2.0
//
// What every mixer promises, tried on all short histories: where Asks come in a
// history decides what is computed; how its tokens are cut into passes, who
// shares a pass, how many threads compute, what was in the scratch before and
// what the state was used for before do not.
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/tools/presets.h"
#include "gtest/gtest.h"
#include "tests/model/loaded_model.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

constexpr int64_t kBlockTokens = 4;
constexpr int kTokens = 9;

class PropertyTest : public testing::TestWithParam<std::string> {
 protected:
  PropertyTest() {
    ModelConfig config = *PresetConfig(GetParam());
    // Windows, segments, memories and mini-batches that are full, and begin
    // again, within so few tokens.
    config.ttt.mini_batch = std::min<int64_t>(config.ttt.mini_batch, 3);
    config.infini.segment = 4;
    config.attention.window = 6;
    config.attention.sinks = std::min<int64_t>(config.attention.sinks, 2);
    config.relative.memory = 6;
    config.relative.clamp = 3;
    EXPECT_THAT(WriteRandomModel(config, 5, dir_.path()), IsOk());
    for (const int threads : {1, 2, 3}) {
      models_.push_back(std::make_unique<LoadedModel>(
          dir_.path(), MakeCpuBackend(threads),
          ModelOptions{.block_tokens = kBlockTokens}));
    }
    tokens_ = RandomTokens(kTokens, 1);
    others_ = RandomTokens(64, 2);
  }

  // A mate in the passes of a session.
  struct Mate {
    std::unique_ptr<SessionState> state;
    size_t next = 0;
  };

  // One pass of the tail on its path, with a mate if it is a step.
  void Pass(LoadedModel& model, SessionState& state, Mate* mate) {
    const ComputePath path =
        state.stepped() ? ComputePath::kStep : ComputePath::kBlock;
    const int64_t rows = static_cast<int64_t>(state.tail().size());
    if (rows == 0) return;
    std::vector<ModelSlice> slices = {
        {.state = &state, .tokens = state.tail(), .logits_end = rows}};
    const bool mated = mate != nullptr && path == ComputePath::kStep;
    if (mated) {
      mate->state->PushToken(others_[mate->next++ % others_.size()]);
      slices.insert(slices.begin(), {.state = mate->state.get(),
                                     .tokens = mate->state->tail()});
    }
    const std::vector<float> logits = model.Forward(path, slices);
    logits_.insert(logits_.end(), logits.begin(), logits.end());
    state.Commit();
    if (mated) mate->state->Commit();
  }

  // Reads the tokens with an Ask before each token of `asks`, bit by bit, in
  // passes as large as they may be or a token at a time; the digest and all
  // logits.
  std::string Read(LoadedModel& model, SessionState& state, unsigned asks,
                   bool token_by_token, Mate* mate) {
    logits_.clear();
    for (int i = 0; i < kTokens; ++i) {
      if ((asks >> i & 1) != 0) {
        if (state.tail_room() > 0) state.Ask();
        if (state.stepped()) Pass(model, state, mate);
      }
      state.PushToken(tokens_[i]);
      if (state.tail_room() == 0 || (token_by_token && state.stepped())) {
        Pass(model, state, mate);
      }
    }
    if (state.stepped()) Pass(model, state, mate);
    return model.Digest(state);
  }

  TempDir dir_;
  std::vector<std::unique_ptr<LoadedModel>> models_;  // by threads
  Tokens tokens_, others_;
  std::vector<float> logits_;
};

TEST_P(PropertyTest, OnlyTheHistoryDecides) {
  // One state for all, made new each time; and one that is new each time.
  const auto used = models_[1]->NewState();
  Mate mate = {.state = models_[1]->NewState(), .next = 0};
  for (unsigned asks = 0; asks < 1u << kTokens; ++asks) {
    SCOPED_TRACE(testing::Message() << "asks " << asks);
    const auto fresh = models_[0]->NewState();
    const std::string wanted =
        Read(*models_[0], *fresh, asks, /*token_by_token=*/false, nullptr);
    const std::vector<float> wanted_logits = logits_;

    LoadedModel& other = *models_[1 + asks % 2];
    other.PoisonScratch();
    other->ResetState(*used);
    if (mate.state->position() > 40) other->ResetState(*mate.state);
    ASSERT_EQ(Read(other, *used, asks, /*token_by_token=*/true, &mate), wanted);
    ASSERT_EQ(logits_, wanted_logits);
  }
}

TEST_P(PropertyTest, AbandonedPassesLeaveNoTrace) {
  for (unsigned asks = 0; asks < 1u << kTokens; asks += 11) {
    const auto plain = models_[0]->NewState();
    const auto disturbed = models_[0]->NewState();
    const std::string wanted =
        Read(*models_[0], *plain, asks, /*token_by_token=*/true, nullptr);
    const std::vector<float> wanted_logits = logits_;
    models_[0]->AbandonFirst(true);
    EXPECT_EQ(Read(*models_[0], *disturbed, asks, true, nullptr), wanted);
    models_[0]->AbandonFirst(false);
    EXPECT_EQ(logits_, wanted_logits);
  }
}

INSTANTIATE_TEST_SUITE_P(Mixers, PropertyTest,
                         testing::ValuesIn(TinyPresetNames()),
                         [](const auto& test) {
                           return absl::StrReplaceAll(test.param, {{"-", "_"}});
                         });

}  // namespace
}  // namespace mneme
