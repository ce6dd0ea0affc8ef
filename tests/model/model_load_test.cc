// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/model.h"
#include "engine/model/safetensors.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/ops/reference/reference_backend.h"
#include "engine/tensor/to_f32.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/loaded_model.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using testing::AllOf;
using testing::ElementsAre;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

class ModelLoadTest : public testing::Test {
 protected:
  ModelLoadTest() {
    EXPECT_THAT(
        WriteRandomModel(*PresetConfig("ttt-linear-tiny"), 1, dir_.path()),
        IsOk());
  }

  std::string config_path() const { return dir_.File("config.json"); }
  std::string weights_path() const { return dir_.File("model.safetensors"); }

  absl::StatusOr<std::shared_ptr<const Model>> Load() {
    return Model::Load(dir_.path(), {}, backend_.get());
  }
  std::string Fingerprint() {
    const auto model = Load();
    EXPECT_THAT(model, IsOk());
    return model.ok() ? (*model)->fingerprint() : "";
  }

  template <class Change>
  void ChangeConfig(const Change& change) {
    nlohmann::json config = nlohmann::json::parse(ReadFile(config_path()));
    change(config);
    WriteFile(config_path(), config.dump());
  }

  // Writes the checkpoint anew; `change` edits the list of its tensors.
  template <class Change>
  void ChangeWeights(const Change& change) {
    const auto file = SafetensorsFile::Open(weights_path());
    ASSERT_THAT(file, IsOk());
    std::vector<NamedTensor> tensors;
    for (const auto& [name, view] : (*file)->tensors()) {
      tensors.push_back({name, view});
    }
    change(tensors);
    ASSERT_THAT(WriteSafetensors(weights_path(), tensors), IsOk());
  }

  static NamedTensor& Find(std::vector<NamedTensor>& tensors,
                           const std::string& name) {
    return *std::find_if(tensors.begin(), tensors.end(),
                         [&](const NamedTensor& t) { return t.name == name; });
  }

  const TempDir dir_;
  const std::unique_ptr<Backend> backend_ = MakeCpuBackend(1);
};

TEST_F(ModelLoadTest, AModelKnowsWhatItIs) {
  const auto loaded = Load();
  ASSERT_THAT(loaded, IsOk());
  const Model& model = **loaded;
  EXPECT_EQ(model.config().layers, 2);
  EXPECT_EQ(model.config().vocab_size, 264);
  EXPECT_THAT(model.mixer_kinds(), ElementsAre("ttt_linear"));
  EXPECT_EQ(model.segment_tokens(), 16);
  EXPECT_EQ(model.block_tokens(), 64);
  EXPECT_EQ(model.max_rows(), 64);
  EXPECT_EQ(model.arithmetic_level(), backend_->arithmetic_level());
  EXPECT_EQ(model.fingerprint().size(), 64u);
  // Embedding, then per layer: norms, projections, feed-forward, rates,
  // scales, inner norm, output norm, inner model.
  const int64_t layer = 2 * 64 + 4 * 64 * 64 + 3 * 176 * 64 + 4 * 64 + 4 + 16 +
                        2 * 64 + 2 * 64 + 4 * 17 * 16;
  EXPECT_EQ(model.parameters(), 264 * 64 + 64 + 2 * layer);
  EXPECT_GE(model.weight_bytes(), 4 * (264 * 64 + 2 * 7 * 64 * 64));
  // Both buffers of the inner weights and of the factors.
  EXPECT_GE(model.layout()->state_bytes(),
            2 * 2 * 4 * (4 * 17 * 16 + 15 * 4 * 2 * 16));
}

TEST_F(ModelLoadTest, TheOptionsDecideTheRowsOfAPass) {
  const auto model = Model::Load(
      dir_.path(), {.block_tokens = 32, .max_step_rows = 5}, backend_.get());
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ((*model)->block_tokens(), 32);
  EXPECT_EQ((*model)->max_step_rows(), 5);
  EXPECT_EQ((*model)->max_rows(), 32);
}

TEST_F(ModelLoadTest, AMissingFileIsNotFoundByName) {
  std::string config = ReadFile(config_path());
  ASSERT_EQ(std::remove(config_path().c_str()), 0);
  EXPECT_THAT(Load(), Fails(absl::StatusCode::kNotFound, config_path()));
  WriteFile(config_path(), config);
  ASSERT_EQ(std::remove(weights_path().c_str()), 0);
  EXPECT_THAT(Load(), Fails(absl::StatusCode::kNotFound, weights_path()));
}

TEST_F(ModelLoadTest, AConfigThatIsWrongOrTooLargeIsRefused) {
  ChangeConfig([](auto& config) { config["hidden_size"] = -1; });
  EXPECT_THAT(Load(), Fails(kInvalid, "\"hidden_size\" is -1"));
  WriteFile(config_path(), std::string((1 << 20) + 1, ' '));
  EXPECT_THAT(Load(), Fails(kInvalid, "1048577 bytes"));
}

TEST_F(ModelLoadTest, TheInnerModelIsTheOneThatTheConfigSays) {
  ChangeConfig([](auto& config) { config["ttt_layer_type"] = "mlp"; });
  EXPECT_THAT(Load(), Fails(kInvalid,
                            "seq_modeling_block.W1\" is F32[4,16,16], want "
                            "F32[4,16,64]"));
  ChangeConfig([](auto& config) { config["ttt_layer_type"] = "conv"; });
  EXPECT_THAT(Load(), Fails(kInvalid,
                            "\"ttt_layer_type\" is \"conv\", want "
                            "\"linear\" or \"mlp\""));
}

class MlpLoadTest : public ModelLoadTest {
 protected:
  MlpLoadTest() {
    EXPECT_THAT(WriteRandomModel(*PresetConfig("ttt-mlp-tiny"), 1, dir_.path()),
                IsOk());
  }
};

TEST_F(MlpLoadTest, AModelKnowsWhatItIs) {
  const auto loaded = Load();
  ASSERT_THAT(loaded, IsOk());
  const Model& model = **loaded;
  EXPECT_EQ(model.config().ttt.layer_type, "mlp");
  EXPECT_EQ(model.config().ttt.base_lr, 0.1f);
  EXPECT_THAT(model.mixer_kinds(), ElementsAre("ttt_mlp"));
  EXPECT_EQ(model.segment_tokens(), 16);
}

// Sun et al.'s sizes: 8 d² + 5 d floats of weights a head, and factors of 10 d
// floats a token and head, for all but the last token of a mini-batch.
TEST_F(MlpLoadTest, TheStateIsOfThePublishedSize) {
  const auto loaded = Load();
  ASSERT_THAT(loaded, IsOk());
  const StateLayout& layout = *(*loaded)->layout();
  int64_t floats = 0;
  for (int64_t part = 0; part < layout.part_count(); ++part) {
    floats += layout.part(part).rows * layout.part(part).row_floats;
  }
  const int64_t layers = 2, dim = 64, head_dim = 16;
  const int64_t wanted =
      layers * dim * (8 * head_dim + 5) + layers * dim * 10 * 15;
  EXPECT_EQ(floats, wanted + dim);  // and the last hidden row
  // Two buffers of each part, the ring of recent tokens, some bookkeeping.
  constexpr int64_t kRingBytes = 4 * SessionState::kRecentTokens;
  EXPECT_GE(layout.state_bytes(), 2 * 4 * (wanted + dim));
  EXPECT_LT(layout.state_bytes(), 2 * 4 * (wanted + dim) + kRingBytes + 2048);
}

TEST_F(MlpLoadTest, EveryTensorOfTheInnerModelIsNeeded) {
  const std::string whole = ReadFile(weights_path());
  for (const char* name : {"W1", "b1", "W2", "b2"}) {
    const std::string tensor_name =
        std::string("model.layers.1.seq_modeling_block.") + name;
    ChangeWeights([&](std::vector<NamedTensor>& tensors) {
      tensors.erase(tensors.begin() +
                    (&Find(tensors, tensor_name) - tensors.data()));
    });
    EXPECT_THAT(Load(), Fails(kInvalid, "\"" + tensor_name + "\" is missing"));
    WriteFile(weights_path(), whole);
  }
}

TEST_F(MlpLoadTest, TensorsOfTheMlpHaveNoPlaceInALinearModel) {
  ChangeConfig([](auto& config) { config["ttt_layer_type"] = "linear"; });
  EXPECT_THAT(Load(), Fails(kInvalid, "F32[4,16,64], want F32[4,16,16]"));
}

TEST_F(MlpLoadTest, TheInnerModelIsInTheFingerprint) {
  const std::string fingerprint = Fingerprint();
  ChangeConfig([](auto& config) { config["ttt_base_lr"] = 1.0; });
  EXPECT_NE(Fingerprint(), fingerprint);
}

TEST_F(ModelLoadTest, EveryTensorIsNeeded) {
  const std::string whole = ReadFile(weights_path());
  std::vector<std::string> names;
  ChangeWeights([&](std::vector<NamedTensor>& tensors) {
    for (const NamedTensor& tensor : tensors) names.push_back(tensor.name);
  });
  ASSERT_GT(names.size(), 30u);
  for (const std::string& name : names) {
    ChangeWeights([&](std::vector<NamedTensor>& tensors) {
      tensors.erase(std::find_if(
          tensors.begin(), tensors.end(),
          [&](const NamedTensor& tensor) { return tensor.name == name; }));
    });
    EXPECT_THAT(Load(), Fails(kInvalid, "\"" + name + "\" is missing"));
    WriteFile(weights_path(), whole);
  }
}

TEST_F(ModelLoadTest, ATensorOfAnotherShapeIsNamed) {
  ChangeWeights([&](std::vector<NamedTensor>& tensors) {
    Find(tensors, "model.layers.1.mlp.up_proj.weight").view.shape = {64, 176};
  });
  EXPECT_THAT(Load(), AllOf(Fails(kInvalid, "model.layers.1.mlp.up_proj"),
                            Fails(kInvalid, "F32[64,176], want F32[176,64]")));
}

TEST_F(ModelLoadTest, ATensorOfAnotherTypeIsNamed) {
  ChangeWeights([&](std::vector<NamedTensor>& tensors) {
    Find(tensors, "model.norm.weight").view.dtype = DType::kI32;
  });
  EXPECT_THAT(Load(),
              Fails(kInvalid, "\"model.norm.weight\" is I32[64], want F32"));
}

TEST_F(ModelLoadTest, ATensorWithoutAPlaceIsNamed) {
  const float value = 1.0f;
  ChangeWeights([&](std::vector<NamedTensor>& tensors) {
    tensors.push_back(
        {"model.layers.0.mlp.extra", {.data = &value, .shape = {1}}});
  });
  EXPECT_THAT(Load(), Fails(kInvalid, "\"model.layers.0.mlp.extra\""));
}

TEST_F(ModelLoadTest, ATensorOfALayerThatTheConfigLacksIsNamed) {
  ChangeConfig([](auto& config) {
    config["num_hidden_layers"] = 1;
    config["layer_types"] = {"ttt"};
  });
  EXPECT_THAT(Load(), Fails(kInvalid, "\"model.layers.1."));
}

TEST_F(ModelLoadTest, BuffersThatFollowFromTheConfigMayBeThere) {
  const std::string fingerprint = Fingerprint();
  const int64_t parameters = (*Load())->parameters();
  const std::vector<float> values(16, 1.0f);
  ChangeWeights([&](std::vector<NamedTensor>& tensors) {
    const std::string prefix = "model.layers.0.seq_modeling_block.";
    tensors.push_back(
        {prefix + "token_idx", {.data = values.data(), .shape = {16}}});
    tensors.push_back({prefix + "rotary_emb.inv_freq",
                       {.data = values.data(), .shape = {8}}});
  });
  EXPECT_EQ(Fingerprint(), fingerprint);
  EXPECT_EQ((*Load())->parameters(), parameters);
}

TEST_F(ModelLoadTest, ATiedHeadMayBeThereIfItIsTheEmbedding) {
  const std::string fingerprint = Fingerprint();
  const int64_t parameters = (*Load())->parameters();
  ChangeWeights([&](std::vector<NamedTensor>& tensors) {
    NamedTensor head = Find(tensors, "model.embed_tokens.weight");
    head.name = "lm_head.weight";
    tensors.push_back(head);
  });
  EXPECT_EQ(Fingerprint(), fingerprint);
  EXPECT_EQ((*Load())->parameters(), parameters);

  const std::vector<float> other(264 * 64, 1.0f);
  ChangeWeights([&](std::vector<NamedTensor>& tensors) {
    Find(tensors, "lm_head.weight").view.data = other.data();
  });
  EXPECT_THAT(Load(), Fails(kInvalid, "\"lm_head.weight\" differs"));
}

// A bfloat16 is the upper half of an f32, so a checkpoint whose numbers were
// rounded to it is the same model in either.
TEST_F(ModelLoadTest, HalvesAreTheNumbersThatTheyAre) {
  std::vector<std::vector<float>> rounded;
  ChangeWeights([&](std::vector<NamedTensor>& tensors) {
    for (NamedTensor& tensor : tensors) {
      std::vector<float>& values = rounded.emplace_back(tensor.view.elements());
      CopyAsF32(tensor.view, 0, tensor.view.elements(), values.data());
      for (float& value : values) {
        value =
            std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffff0000u);
      }
      tensor.view.data = values.data();
    }
  });
  const auto read = [&] {
    LoadedModel model(dir_.path(), MakeCpuBackend(1));
    const auto state = model.NewState();
    return std::pair(
        model.Read(ComputePath::kBlock, *state, RandomTokens(70, 3)),
        model->weight_bytes());
  };
  const auto wanted = read();
  std::vector<std::vector<uint16_t>> halves;
  ChangeWeights([&](std::vector<NamedTensor>& tensors) {
    for (NamedTensor& tensor : tensors) {
      std::vector<uint16_t>& values = halves.emplace_back();
      for (int64_t i = 0; i < tensor.view.elements(); ++i) {
        float value;
        CopyAsF32(tensor.view, i, 1, &value);
        values.push_back(std::bit_cast<uint32_t>(value) >> 16);
      }
      tensor.view.data = values.data();
      tensor.view.dtype = DType::kBF16;
    }
  });
  // Held as f32 in both cases.
  EXPECT_EQ(read(), wanted);
}

TEST_F(ModelLoadTest, AShardedCheckpointIsTheSameModel) {
  const std::string fingerprint = Fingerprint();
  nlohmann::json index = {{"metadata", {{"total_size", 1}}}};
  {
    const auto file = SafetensorsFile::Open(weights_path());
    ASSERT_THAT(file, IsOk());
    std::vector<NamedTensor> shards[2];
    for (const auto& [name, view] : (*file)->tensors()) {
      const size_t shard = shards[0].size() > shards[1].size() ? 1 : 0;
      shards[shard].push_back({name, view});
      index["weight_map"][name] =
          shard == 0 ? "a.safetensors" : "b.safetensors";
    }
    ASSERT_THAT(WriteSafetensors(dir_.File("a.safetensors"), shards[0]),
                IsOk());
    ASSERT_THAT(WriteSafetensors(dir_.File("b.safetensors"), shards[1]),
                IsOk());
  }
  WriteFile(dir_.File("model.safetensors.index.json"), index.dump());
  EXPECT_THAT(Load(), Fails(kInvalid, "found both"));
  ASSERT_EQ(std::remove(weights_path().c_str()), 0);
  EXPECT_EQ(Fingerprint(), fingerprint);
}

TEST_F(ModelLoadTest, ATornCheckpointIsRefused) {
  const std::string whole = ReadFile(weights_path());
  WriteFile(weights_path(), whole.substr(0, whole.size() - 1));
  EXPECT_THAT(Load(), Fails(kInvalid, weights_path()));
}

// -- Fingerprint -------------------------------------------------------------

TEST_F(ModelLoadTest, TheFingerprintIsTheModelsOwn) {
  const std::string fingerprint = Fingerprint();
  EXPECT_EQ(Fingerprint(), fingerprint);
  const std::unique_ptr<Backend> reference = MakeReferenceBackend();
  const auto other =
      Model::Load(dir_.path(), {.block_tokens = 16}, reference.get());
  ASSERT_THAT(other, IsOk());
  EXPECT_EQ((*other)->fingerprint(), fingerprint);
}

TEST_F(ModelLoadTest, OneBitOfTheWeightsChangesTheFingerprint) {
  const std::string fingerprint = Fingerprint();
  std::string weights = ReadFile(weights_path());
  for (const size_t behind : {size_t{1}, size_t{5000}, size_t{50'001}}) {
    char& byte = weights[weights.size() - behind];
    byte = static_cast<char>(byte ^ 1);
    WriteFile(weights_path(), weights);
    EXPECT_NE(Fingerprint(), fingerprint);
    byte = static_cast<char>(byte ^ 1);
  }
  WriteFile(weights_path(), weights);
  EXPECT_EQ(Fingerprint(), fingerprint);
}

TEST_F(ModelLoadTest, ASettingChangesTheFingerprint) {
  const std::string fingerprint = Fingerprint();
  ChangeConfig([](auto& config) { config["rope_theta"] = 9999.0; });
  EXPECT_NE(Fingerprint(), fingerprint);
  ChangeConfig([](auto& config) { config["rope_theta"] = 10000; });
  EXPECT_EQ(Fingerprint(), fingerprint);
  ChangeConfig([](auto& config) { config["eos_token_id"] = {259, 260}; });
  EXPECT_NE(Fingerprint(), fingerprint);
}

TEST_F(ModelLoadTest, HarmlessKeysDoNotChangeTheFingerprint) {
  const std::string fingerprint = Fingerprint();
  ChangeConfig([](auto& config) {
    config["transformers_version"] = "4.39.3";
    config["use_cache"] = true;
    config["max_position_embeddings"] = 7;
    config["_name_or_path"] = "elsewhere";
  });
  EXPECT_EQ(Fingerprint(), fingerprint);
}

}  // namespace
}  // namespace mneme
