// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/model.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/ops/reference/reference_backend.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/loaded_model.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

// Rounding of f32 through a few small layers; the subtlest known mistake in
// the formulas shows as 2e-3.
constexpr double kTolerance = 2e-4;

ModelConfig TinyConfig() { return *PresetConfig("ttt-linear-tiny"); }

struct Case {
  std::string name;
  ModelConfig config;
};

std::vector<Case> Cases() {
  ModelConfig convolutions = TinyConfig();
  convolutions.model_dim = 48;
  convolutions.heads = 3;
  convolutions.ffn_dim = 80;
  convolutions.ttt.mini_batch = 7;
  convolutions.ttt.share_qk = true;
  convolutions.ttt.use_gate = true;
  convolutions.pre_conv = true;
  convolutions.tie_word_embeddings = false;
  ModelConfig long_mini_batch = TinyConfig();
  long_mini_batch.ttt.mini_batch = 100;
  long_mini_batch.layers = 1;
  ModelConfig single_tokens = TinyConfig();
  single_tokens.ttt.mini_batch = 1;
  single_tokens.ttt.share_qk = true;
  single_tokens.conv_kernel = 1;
  std::vector<Case> cases = {{"Tiny", TinyConfig()},
                             {"Convolutions", convolutions},
                             {"MiniBatchLongerThanABlock", long_mini_batch},
                             {"MiniBatchOfOne", single_tokens}};
  for (size_t i = 0; i < 4; ++i) {
    Case mlp = {"Mlp" + cases[i].name, cases[i].config};
    mlp.config.ttt.layer_type = "mlp";
    mlp.config.ttt.base_lr = 0.1f;
    cases.push_back(mlp);
  }
  // Heads of other sizes than whole vectors, and some of the switches.
  Case gated = {"MlpGateAndPreConv", TinyConfig()};
  gated.config.ttt.layer_type = "mlp";
  gated.config.ttt.base_lr = 0.1f;
  gated.config.model_dim = 52;
  gated.config.heads = 2;
  gated.config.ttt.use_gate = true;
  gated.config.pre_conv = true;
  gated.config.conv_kernel = 2;
  gated.config.ttt.mini_batch = 5;
  cases.push_back(gated);
  cases.push_back({"Infini", *PresetConfig("infini-tiny")});
  // Several segments to a block, one memory for three heads of other widths
  // than the model has.
  Case delta = {"InfiniDeltaShortSegments", *PresetConfig("infini-tiny")};
  delta.config.model_dim = 52;
  delta.config.heads = 3;
  delta.config.infini.kv_heads = 1;
  delta.config.infini.head_dim = 20;
  delta.config.infini.segment = 7;
  delta.config.infini.update_rule = "linear_delta";
  delta.config.tie_word_embeddings = false;
  cases.push_back(delta);
  cases.push_back({"Window", *PresetConfig("window-tiny")});
  // Biases, norms of heads, other widths than the model's, no sinks.
  Case window = {"WindowShorterThanABlock", *PresetConfig("window-tiny")};
  window.config.model_type = "qwen3";
  window.config.model_dim = 52;
  window.config.heads = 3;
  window.config.attention = {.kv_heads = 1,
                             .head_dim = 20,
                             .window = 9,
                             .sinks = 0,
                             .rope = {.type = "llama3", .factor = 8},
                             .qkv_bias = true,
                             .o_bias = true,
                             .qk_norm = true};
  cases.push_back(window);
  Case full = {"FullAttention", *PresetConfig("window-tiny")};
  full.config.attention.window = 0;
  full.config.attention.sinks = 0;
  full.config.attention.limit = 1000;
  cases.push_back(full);
  // Slopes by distance, LayerNorm, an embedding norm and biases.
  Case slopes = {"Bloom", *PresetConfig("window-tiny")};
  slopes.config.model_type = "bloom";
  slopes.config.heads = 3;
  slopes.config.model_dim = 60;
  slopes.config.ffn_dim = 240;
  slopes.config.norm = NormType::kLayer;
  slopes.config.embedding_norm = true;
  slopes.config.activation = Activation::kGeluTanh;
  slopes.config.ffn_gate = false;
  slopes.config.ffn_bias = true;
  slopes.config.attention = {.kv_heads = 3,
                             .head_dim = 20,
                             .window = 30,
                             .sinks = 2,
                             .positions = AttentionPositions::kSlopes,
                             .qkv_bias = true,
                             .o_bias = true};
  cases.push_back(slopes);
  cases.push_back({"TransformerXl", *PresetConfig("transformer-xl-tiny")});
  // Norms first, segments of an odd length, distances told apart up to all.
  Case segments = {"TransformerXlSegments",
                   *PresetConfig("transformer-xl-tiny")};
  segments.config.norm_place = NormPlace::kBefore;
  segments.config.heads = 3;
  segments.config.relative = {.head_dim = 10,
                              .memory = 20,
                              .clamp = 0,
                              .same_length = false,
                              .segment = 7,
                              .zero_memory = true,
                              .shared_bias = true};
  cases.push_back(segments);
  cases.push_back({"Delta", *PresetConfig("delta-tiny")});
  cases.push_back({"Hybrid", *PresetConfig("hybrid-tiny")});
  // A gate that never closes, rates over d, what the delta rule can have of
  // the rest; heads that are no whole vectors and can not be rotated.
  Case plain = {"DeltaAlwaysOpen", TinyConfig()};
  plain.config.mixers = {MixerType::kDelta};
  plain.config.model_dim = 52;
  plain.config.heads = 4;
  plain.config.ttt.inner_norm = false;
  plain.config.ttt.heads = 3;
  plain.config.ttt.head_dim = 21;
  plain.config.ttt.rope = false;
  plain.config.ttt.mini_batch = 1;
  plain.config.tie_word_embeddings = false;
  cases.push_back(plain);
  // Both kinds of layers where the inner model has its norm.
  Case normed = {"HybridWithInnerNorm", *PresetConfig("hybrid-tiny")};
  normed.config.mixers = {MixerType::kTtt, MixerType::kAttention};
  normed.config.layers = 3;
  normed.config.attention.window = 9;
  normed.config.ttt.inner_norm = true;
  normed.config.ttt.mini_batch = 7;
  normed.config.ttt.rope = true;
  normed.config.ttt.lr_scale = "base/d";
  normed.config.ttt.post_norm = true;
  cases.push_back(normed);
  Case mlp = {"MlpWithoutRotationOrOutputNorm", TinyConfig()};
  mlp.config.ttt.layer_type = "mlp";
  mlp.config.ttt.heads = 3;
  mlp.config.ttt.head_dim = 9;
  mlp.config.ttt.base_lr = 0.1f;
  mlp.config.ttt.qk_l2norm = true;
  mlp.config.ttt.rope = false;
  mlp.config.ttt.post_norm = false;
  mlp.config.ttt.use_gate = true;
  mlp.config.ttt.gate_act = "sigmoid";
  mlp.config.ttt.lr_gate = "hard";
  mlp.config.ttt.lr_gate_stretch = 4.0f;
  cases.push_back(mlp);
  return cases;
}

class ModelForwardTest : public testing::TestWithParam<Case> {
 protected:
  ModelForwardTest() {
    EXPECT_THAT(WriteRandomModel(GetParam().config, 3, dir_.path()), IsOk());
  }

  LoadedModel Cpu(int threads = 1) const {
    return LoadedModel(dir_.path(), MakeCpuBackend(threads));
  }
  LoadedModel Reference() const {
    return LoadedModel(dir_.path(), MakeReferenceBackend());
  }

  const TempDir dir_;
  const Tokens tokens_ = RandomTokens(150, 5);
};

TEST_P(ModelForwardTest, BothPathsAgreeWithTheReference) {
  LoadedModel reference = Reference();
  const auto wanted_state = reference.NewState();
  const std::vector<float> wanted =
      reference.Read(ComputePath::kStep, *wanted_state, tokens_);
  ASSERT_EQ(wanted.size(), 150u * 264u);
  LoadedModel cpu = Cpu();
  for (const ComputePath path : {ComputePath::kBlock, ComputePath::kStep}) {
    const auto state = cpu.NewState();
    EXPECT_LT(MaxDifference(cpu.Read(path, *state, tokens_), wanted),
              kTolerance);
    for (int64_t part = 0; part < cpu->layout()->part_count(); ++part) {
      ASSERT_EQ(state->rows(part), wanted_state->rows(part));
      const int64_t floats =
          state->rows(part) * cpu->layout()->part(part).row_floats;
      EXPECT_LT(
          MaxDifference({state->contents(part), state->contents(part) + floats},
                        {wanted_state->contents(part),
                         wanted_state->contents(part) + floats}),
          kTolerance)
          << cpu->layout()->part(part).name;
    }
  }
}

TEST_P(ModelForwardTest, TheNumberOfThreadsChangesNoBit) {
  for (const ComputePath path : {ComputePath::kBlock, ComputePath::kStep}) {
    std::string digest;
    std::vector<float> logits;
    for (const int threads : {1, 2, 3}) {
      LoadedModel model = Cpu(threads);
      const auto state = model.NewState();
      const std::vector<float> found = model.Read(path, *state, tokens_);
      if (threads == 1) {
        digest = model.Digest(*state);
        logits = found;
      }
      EXPECT_EQ(found, logits) << threads << " threads";
      EXPECT_EQ(model.Digest(*state), digest) << threads << " threads";
    }
  }
}

TEST_P(ModelForwardTest, AnyCutIntoStepPassesGivesTheSameBits) {
  LoadedModel model = Cpu(2);
  const auto whole = model.NewState();
  const std::vector<float> wanted =
      model.Read(ComputePath::kStep, *whole, tokens_);
  for (const int64_t most : {1, 3, 17}) {
    const auto state = model.NewState();
    EXPECT_EQ(model.Read(ComputePath::kStep, *state, tokens_, most), wanted)
        << most << " at a time";
    EXPECT_EQ(model.Digest(*state), model.Digest(*whole));
  }
}

TEST_P(ModelForwardTest, SessionsInOneStepPassAreEachAsIfAlone) {
  LoadedModel model = Cpu(2);
  // Histories, what each then reads in the common pass.
  const std::vector<std::pair<int, int>> sizes = {
      {0, 1}, {20, 3}, {7, 1}, {64, 9}, {31, 5}};
  std::vector<std::unique_ptr<SessionState>> together;
  std::vector<ModelSlice> slices;
  std::vector<float> wanted;
  std::vector<std::string> digests;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto seed = static_cast<unsigned>(i);
    const Tokens history = RandomTokens(sizes[i].first, 10 + seed);
    const Tokens next = RandomTokens(sizes[i].second, 20 + seed);
    const auto alone = model.NewState();
    model.Read(ComputePath::kStep, *alone, history);
    together.push_back(*alone->Clone());
    const std::vector<float> logits =
        model.Read(ComputePath::kStep, *alone, next);
    wanted.insert(wanted.end(), logits.begin(), logits.end());
    digests.push_back(model.Digest(*alone));
    for (const int32_t token : next) together[i]->PushToken(token);
    slices.push_back({.state = together[i].get(),
                      .tokens = together[i]->tail(),
                      .logits_end = sizes[i].second});
  }
  EXPECT_EQ(model.Forward(ComputePath::kStep, slices), wanted);
  for (size_t i = 0; i < sizes.size(); ++i) {
    together[i]->Commit();
    EXPECT_EQ(model.Digest(*together[i]), digests[i]) << "session " << i;
  }
}

TEST_P(ModelForwardTest, PriorLogitsAreThoseOfTheLastTokenBefore) {
  LoadedModel model = Cpu(2);
  const auto state = model.NewState();
  const auto neighbour = model.NewState();
  std::vector<float> logits = model.Read(ComputePath::kStep, *state, {5, 6, 7});
  const std::vector<float> last(logits.end() - 264, logits.end());

  // Asked for alone, without a token to read.
  EXPECT_EQ(model.Forward(ComputePath::kStep,
                          {{.state = state.get(), .prior_logits = true}}),
            last);
  state->Abandon();

  // Asked for with tokens, and in the middle of others' rows.
  neighbour->PushToken(1);
  state->PushToken(8);
  state->PushToken(9);
  logits = model.Forward(
      ComputePath::kStep,
      {{.state = neighbour.get(), .tokens = neighbour->tail(), .logits_end = 1},
       {.state = state.get(),
        .tokens = state->tail(),
        .prior_logits = true,
        .logits_begin = 1,
        .logits_end = 2}});
  ASSERT_EQ(logits.size(), 3u * 264u);
  EXPECT_EQ(std::vector<float>(logits.begin() + 264, logits.begin() + 528),
            last);
}

TEST_P(ModelForwardTest, OnlyTheWantedRowsHaveLogits) {
  LoadedModel model = Cpu();
  for (const ComputePath path : {ComputePath::kBlock, ComputePath::kStep}) {
    const auto all = model.NewState();
    const std::vector<float> wanted =
        model.ReadSome(path, *all, absl::MakeConstSpan(tokens_).first(20));
    for (const auto& [begin, end] :
         std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {19, 20}, {5, 9}}) {
      const auto state = model.NewState();
      for (int i = 0; i < 20; ++i) state->PushToken(tokens_[i]);
      const std::vector<float> found =
          model.Forward(path, {{.state = state.get(),
                                .tokens = state->tail(),
                                .logits_begin = begin,
                                .logits_end = end}});
      state->Commit();
      ASSERT_EQ(found.size(), (end - begin) * 264u);
      EXPECT_LT(MaxDifference(found, {wanted.begin() + begin * 264,
                                      wanted.begin() + end * 264}),
                1e-5);
      EXPECT_EQ(model.Digest(*state), model.Digest(*all));
    }
  }
}

TEST_P(ModelForwardTest, AnAbandonedPassLeavesTheStateAsItWas) {
  LoadedModel model = Cpu(2);
  for (const ComputePath path : {ComputePath::kBlock, ComputePath::kStep}) {
    for (const int history : {0, 5, 24, 64, 70}) {
      const auto state = model.NewState();
      model.Read(path, *state, absl::MakeConstSpan(tokens_).first(history));
      const auto untouched = *state->Clone();
      for (int i = 0; i < 40; ++i) state->PushToken(tokens_[i]);
      const std::string digest = model.Digest(*state);
      std::vector<float> logits[2];
      for (std::vector<float>& found : logits) {
        found = model.Forward(path, {{.state = state.get(),
                                      .tokens = state->tail(),
                                      .logits_end = 40}});
        state->Abandon();
        EXPECT_EQ(model.Digest(*state), digest) << "after " << history;
      }
      EXPECT_EQ(logits[0], logits[1]);

      // And what it reads next is as if the pass had not been.
      const auto reader = *untouched->Clone();
      const std::vector<float> wanted =
          model.ReadSome(path, *reader, state->tail());
      EXPECT_EQ(model.ReadSome(path, *state, {}).size(), 0u);
      EXPECT_EQ(logits[0], wanted);
      EXPECT_EQ(model.Digest(*state), model.Digest(*reader));
    }
  }
}

TEST_P(ModelForwardTest, ACloneGoesOnAsItsParentWould) {
  LoadedModel model = Cpu();
  const auto parent = model.NewState();
  model.Read(ComputePath::kStep, *parent,
             absl::MakeConstSpan(tokens_).first(37));
  const std::string digest = model.Digest(*parent);
  const auto clone = *parent->Clone();
  const absl::Span<const int32_t> rest =
      absl::MakeConstSpan(tokens_).subspan(37);
  const std::vector<float> said = model.Read(ComputePath::kStep, *clone, rest);
  EXPECT_EQ(model.Digest(*parent), digest);
  EXPECT_EQ(model.Read(ComputePath::kStep, *parent, rest), said);
  EXPECT_EQ(model.Digest(*parent), model.Digest(*clone));
}

TEST_P(ModelForwardTest, NewSessionsAreAllTheSame) {
  LoadedModel model = Cpu();
  const auto first = model.NewState();
  model.Read(ComputePath::kStep, *model.NewState(), {1, 2, 3});
  EXPECT_EQ(model.Digest(*model.NewState()), model.Digest(*first));
}

TEST_P(ModelForwardTest, EveryTokenOfTheHistoryReachesTheDigest) {
  LoadedModel model = Cpu();
  std::vector<std::string> digests;
  for (const Tokens& history :
       {Tokens{1, 2, 3}, Tokens{2, 1, 3}, Tokens{1, 2, 4}, Tokens{1, 2},
        Tokens{1, 2, 3, 3}}) {
    const auto state = model.NewState();
    model.Read(ComputePath::kStep, *state, history);
    EXPECT_THAT(digests, testing::Not(testing::Contains(model.Digest(*state))));
    digests.push_back(model.Digest(*state));
  }
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Models, ModelForwardTest, testing::ValuesIn(Cases()),
                         CaseName);

TEST(ModelPassTest, TheLargestStepPassFitsItsWorkspace) {
  const TempDir dir;
  ASSERT_THAT(WriteRandomModel(TinyConfig(), 3, dir.path()), IsOk());
  LoadedModel model(dir.path(), MakeCpuBackend(2), {.max_step_rows = 64});
  // As many sessions as a pass takes, a token each, and all want both logits.
  std::vector<std::unique_ptr<SessionState>> states;
  std::vector<ModelSlice> slices;
  for (int64_t i = 0; i < kMaxPassSlices; ++i) {
    states.push_back(model.NewState());
    model.Read(ComputePath::kStep, *states[i], {static_cast<int32_t>(i)});
    states[i]->PushToken(200);
    slices.push_back({.state = states[i].get(),
                      .tokens = states[i]->tail(),
                      .prior_logits = true,
                      .logits_end = 1});
  }
  EXPECT_EQ(model.Forward(ComputePath::kStep, slices).size(),
            2u * kMaxPassSlices * 264u);
}

}  // namespace
}  // namespace mneme
