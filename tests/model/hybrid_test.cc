// SPDX-License-Identifier: Apache-2.0
//
// Facts about layers of the delta rule between layers of attention, in a model
// as a whole.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "engine/model/mixers/delta.h"
#include "engine/model/model.h"
#include "engine/model/safetensors.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/loaded_model.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using testing::Contains;
using testing::Key;
using testing::Not;

// The bytes that the layers declare, without what the engine keeps beside
// them.
int64_t DeclaredBytes(const Model& model) {
  int64_t floats = 0;
  for (const LayerSpec& layer : model.layout()->spec().layers) {
    for (const PartSpec& part : layer) floats += part.rows * part.row_floats;
  }
  return floats * 4;
}

ModelConfig HybridConfig() { return *PresetConfig("hybrid-tiny"); }

class HybridTest : public testing::Test {
 protected:
  // Writes a random model whose gates have `bias` added to their logits.
  void Write(const ModelConfig& config, float bias = 0.0f) {
    ASSERT_THAT(WriteRandomModel(config, 3, dir_.path()), IsOk());
    if (bias == 0.0f) return;
    std::vector<std::vector<float>> copies;
    std::vector<NamedTensor> tensors;
    {
      const auto file = *SafetensorsFile::Open(dir_.File("model.safetensors"));
      for (const auto& [name, view] : file->tensors()) {
        const auto* values = static_cast<const float*>(view.data);
        std::vector<float>& copy =
            copies.emplace_back(values, values + view.elements());
        if (absl::StrContains(name, "lr_bias")) {
          for (float& value : copy) value += bias;
        }
        tensors.push_back({name, {copy.data(), DType::kF32, view.shape}});
      }
    }
    ASSERT_THAT(WriteSafetensors(dir_.File("model.safetensors"), tensors),
                IsOk());
  }

  LoadedModel Load() const { return {dir_.path(), MakeCpuBackend(2)}; }

  static int64_t WeightsPart(const LoadedModel& model, int64_t layer) {
    return model->layout()->first_part(layer) + int64_t(DeltaPart::kWeights);
  }

  const TempDir dir_;
  const Tokens tokens_ = RandomTokens(200, 5);
};

TEST_F(HybridTest, EachLayerHasTheTensorsOfItsKind) {
  Write(HybridConfig());
  const auto file = *SafetensorsFile::Open(dir_.File("model.safetensors"));
  const auto& tensors = file->tensors();
  for (int layer = 0; layer < 5; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const bool memory = layer == 2 || layer == 4;
    const std::string mixer =
        prefix + (memory ? "seq_modeling_block." : "self_attn.");
    const std::string other =
        prefix + (memory ? "self_attn." : "seq_modeling_block.");
    for (const char* name :
         {"q_proj.weight", "v_proj.weight", "o_proj.weight"}) {
      EXPECT_THAT(tensors, Contains(Key(mixer + name)));
      EXPECT_THAT(tensors, Not(Contains(Key(other + name))));
    }
    for (const char* name : {"seq_norm.weight", "ffn_norm.weight",
                             "conv.norm.weight", "conv.conv.weight"}) {
      EXPECT_THAT(tensors, Contains(Key(prefix + name)));
    }
    if (!memory) continue;
    for (const char* name : {"W1", "b1", "ttt_norm_weight", "post_norm.weight",
                             "learnable_token_idx", "k_proj.weight"}) {
      EXPECT_THAT(tensors, Not(Contains(Key(mixer + name))));
    }
  }
  // Heads of their own width.
  EXPECT_EQ(tensors.at("model.layers.2.seq_modeling_block.v_proj.weight").shape,
            (Shape{48, 64}));
  EXPECT_EQ(tensors.at("model.layers.2.seq_modeling_block.o_proj.weight").shape,
            (Shape{64, 48}));
  EXPECT_EQ(
      tensors.at("model.layers.2.seq_modeling_block.learnable_ttt_lr_weight")
          .shape,
      (Shape{2, 1, 64}));
  EXPECT_EQ(tensors.at("model.layers.0.self_attn.k_proj.weight").shape,
            (Shape{64, 64}));
}

TEST_F(HybridTest, AModelSaysWhatItsLayersAre) {
  Write(HybridConfig());
  const LoadedModel model = Load();
  EXPECT_THAT(model->mixer_kinds(), testing::ElementsAre("window", "delta"));
  EXPECT_FALSE(model->commits_segments());
}

// Five layers of width 128: two maps of [2, 128, 128], three windows of 63
// keys and values, three inputs to each convolution.
TEST_F(HybridTest, TheSizeOfAStateFollowsFromTheSizesOfItsLayers) {
  ModelConfig config = HybridConfig();
  config.model_dim = 128;
  config.ffn_dim = 320;
  config.attention.head_dim = 32;
  config.attention.window = 64;
  config.ttt.heads = 2;
  config.ttt.head_dim = 128;
  Write(config);
  const LoadedModel model = Load();
  EXPECT_EQ(DeclaredBytes(*model), 469'504);
  EXPECT_EQ(model->parameters(), 1'117'828);
}

TEST_F(HybridTest, AMemoryThatNothingIsWrittenToStaysInItsPlace) {
  Write(HybridConfig(), /*bias=*/-100.0f);
  LoadedModel model = Load();
  for (const ComputePath path : {ComputePath::kBlock, ComputePath::kStep}) {
    const auto state = model.NewState();
    for (const int64_t layer : {2, 4}) {
      const int64_t part = WeightsPart(model, layer);
      const float* const before = state->contents(part);
      for (const int64_t rows : {64, 1, 3}) {
        model.Read(path, *state, absl::MakeConstSpan(tokens_).first(rows));
        EXPECT_EQ(state->contents(part), before);
      }
      for (int64_t i = 0; i < 2 * 24 * 24; ++i) EXPECT_EQ(before[i], 0.0f);
    }
  }
}

// Facts, then tokens that write nothing: the memory is the same bits however
// these come.
TEST_F(HybridTest, FillerChangesNoBitOfAMemory) {
  Write(HybridConfig(), /*bias=*/-0.5f);
  LoadedModel model = Load();
  const auto told = model.NewState();
  model.Read(ComputePath::kStep, *told, tokens_);
  const int64_t part = WeightsPart(model, 2);
  const auto weights = [&](const SessionState& state) {
    return std::vector<float>(state.contents(part),
                              state.contents(part) + 2 * 24 * 24);
  };
  const std::vector<float> wanted = weights(*told);
  EXPECT_THAT(wanted, Contains(testing::Ne(0.0f)));
  // Tokens one by one, as long as they write nothing.
  Tokens filler;
  const auto one_by_one = *told->Clone();
  for (int32_t token = 0; token < 264 && filler.size() < 40; ++token) {
    const auto tried = *one_by_one->Clone();
    model.Read(ComputePath::kStep, *tried, {token});
    if (weights(*tried) != wanted) continue;
    filler.push_back(token);
    model.Read(ComputePath::kStep, *one_by_one, {token});
  }
  ASSERT_EQ(filler.size(), 40u);
  EXPECT_EQ(weights(*one_by_one), wanted);
  for (const ComputePath path : {ComputePath::kBlock, ComputePath::kStep}) {
    const auto state = *told->Clone();
    model.Read(path, *state, filler);
    EXPECT_EQ(weights(*state), wanted);
  }
}

TEST_F(HybridTest, AWindowedLayerForgetsAndAMemoryLayerDoesNot) {
  ModelConfig config = HybridConfig();
  config.layers = 1;
  const Tokens other = {7, 8, 9};
  // What is left of the first tokens after many others, through `mixer` alone.
  for (const MixerType mixer : {MixerType::kAttention, MixerType::kDelta}) {
    config.mixers = {mixer};
    Write(config, /*bias=*/0.0f);
    LoadedModel model = Load();
    std::vector<std::vector<float>> said;
    for (const Tokens& first : {Tokens{1, 2, 3}, other}) {
      const auto state = model.NewState();
      model.Read(ComputePath::kStep, *state, first);
      said.push_back(model.Read(ComputePath::kStep, *state, tokens_));
      said.back().erase(said.back().begin(), said.back().end() - 264);
    }
    EXPECT_EQ(said[0] == said[1], mixer == MixerType::kAttention);
  }
}

}  // namespace
}  // namespace mneme
