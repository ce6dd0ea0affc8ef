// SPDX-License-Identifier: Apache-2.0
//
// Every combination of the family's settings loads, and computes on every path
// and backend what the reference does.
#include <cmath>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

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

// Rounding of f32, beside double precision, through two small layers.
constexpr double kTolerance = 2e-4;

constexpr int kOfficial = 64;
constexpr int kAll = 3 * kOfficial;

// The settings that the authors' code does not have, at random, and layers of
// attention in between.
void AddOurs(std::mt19937& random, ModelConfig& config) {
  const auto flip = [&random] { return random() % 2 == 0; };
  TttConfig& ttt = config.ttt;
  ttt.heads = 1 + random() % 4;
  ttt.inner_norm = flip();
  ttt.head_dim = (ttt.inner_norm ? 6 : 1) + random() % 20;
  if (!ttt.inner_norm) {
    ttt.layer_type = "linear";
    ttt.mini_batch = 1;
  }
  ttt.qk_l2norm = flip();
  ttt.qk_l2norm_eps = 0.01f;
  ttt.rope = ttt.head_dim % 2 == 0 && flip();
  ttt.lr_gate = flip() ? "hard" : "sigmoid";
  ttt.lr_gate_stretch = flip() ? 2.0f : 20.0f;
  // Steps of full size towards long keys grow without end.
  ttt.lr_scale = ttt.qk_l2norm && flip() ? "one" : "base/d";
  ttt.post_norm = flip();
  ttt.gate_act = flip() ? "sigmoid" : "gelu";
  const MixerType memory = ttt.inner_norm ? MixerType::kTtt : MixerType::kDelta;
  config.mixers = {memory, flip() ? memory : MixerType::kAttention};
  if (flip()) std::swap(config.mixers[0], config.mixers[1]);
  config.attention = {.kv_heads = config.heads,
                      .head_dim = config.model_dim / config.heads,
                      .window = 1 + static_cast<int64_t>(random() % 100),
                      .pairs = RotationPairs::kNeighbours};
}

// All 32 combinations of the switches, each with sizes drawn at random: heads
// and head sizes that are no powers of two, kernels of one tap, mini-batches
// that do not divide a block or are longer than one. No heads of two numbers:
// their LayerNorm is a sign, which a rounding error may turn.
ModelConfig Combination(int number) {
  std::mt19937 random(number);
  const auto one_of = [&random](std::vector<int64_t> choices) {
    return choices[random() % choices.size()];
  };
  ModelConfig config;
  config.ttt.share_qk = (number & 1) != 0;
  config.ttt.use_gate = (number & 2) != 0;
  config.pre_conv = (number & 4) != 0;
  config.tie_word_embeddings = (number & 8) != 0;
  config.ttt.layer_type = (number & 16) != 0 ? "mlp" : "linear";
  config.ttt.base_lr = config.ttt.layer_type == "mlp" ? 0.1f : 1.0f;
  config.vocab_size = 264;
  config.tokenizer = "bytes";
  config.layers = 2;
  config.heads = one_of({1, 2, 3, 5});
  config.model_dim = config.heads * one_of({6, 10, 12, 16, 20});
  config.ffn_dim = one_of({1, 17, 40});
  config.conv_kernel = one_of({1, 2, 3, 4, 7});
  config.ttt.mini_batch = one_of({1, 3, 8, 16, 24, 70});
  if (number >= kOfficial) AddOurs(random, config);
  return config;
}

class CombinationsTest : public testing::TestWithParam<int> {};

TEST_P(CombinationsTest, BackendsAndPathsAgree) {
  const ModelConfig config = Combination(GetParam());
  const TempDir dir;
  ASSERT_THAT(WriteRandomModel(config, GetParam() + 1, dir.path()), IsOk());
  LoadedModel reference(dir.path(), MakeReferenceBackend());
  LoadedModel cpu(dir.path(), MakeCpuBackend(2));
  SCOPED_TRACE(cpu->config().canonical);
  EXPECT_EQ(cpu->config().canonical, reference->config().canonical);
  EXPECT_EQ(cpu->fingerprint(), reference->fingerprint());

  const Tokens tokens = RandomTokens(150, GetParam());
  const auto wanted_state = reference.NewState();
  const std::vector<float> wanted =
      reference.Read(ComputePath::kStep, *wanted_state, tokens);
  for (const float logit : wanted) ASSERT_TRUE(std::isfinite(logit));

  const auto blocks = cpu.NewState();
  EXPECT_LT(
      MaxDifference(cpu.Read(ComputePath::kBlock, *blocks, tokens), wanted),
      kTolerance);
  const auto steps = cpu.NewState();
  EXPECT_LT(
      MaxDifference(cpu.Read(ComputePath::kStep, *steps, tokens, 7), wanted),
      kTolerance);
  // One token at a time gives the same bits as seven.
  const auto single = cpu.NewState();
  cpu.Read(ComputePath::kStep, *single, tokens, 1);
  EXPECT_EQ(cpu.Digest(*single), cpu.Digest(*steps));

  // And it goes on from either state as the reference does from its own.
  const Tokens more = RandomTokens(30, GetParam() + 1000);
  const std::vector<float> wanted_next =
      reference.Read(ComputePath::kStep, *wanted_state, more);
  EXPECT_LT(MaxDifference(cpu.Read(ComputePath::kStep, *blocks, more, 5),
                          wanted_next),
            kTolerance);
}

INSTANTIATE_TEST_SUITE_P(AllSwitches, CombinationsTest,
                         testing::Range(0, kAll));

}  // namespace
}  // namespace mneme
