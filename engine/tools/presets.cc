// SPDX-License-Identifier: Apache-2.0
#include "engine/tools/presets.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "engine/model/model.h"
#include "engine/model/safetensors.h"
#include "engine/model/weights.h"

namespace mneme {
namespace {

// Control tokens of the byte vocabulary.
constexpr int32_t kBos = 256;
constexpr int32_t kUser = 257;
constexpr int32_t kAssistant = 258;
constexpr int32_t kEnd = 259;
constexpr int64_t kByteVocabulary = 264;

// The same sizes with the plain delta rule: a few wide heads, and a gate that
// random weights open for some tokens and close for others.
ModelConfig Delta(const ModelConfig& ttt) {
  ModelConfig config = ttt;
  config.mixers = {MixerType::kDelta};
  config.ttt.heads = ttt.heads / 2;
  config.ttt.head_dim = 3 * ttt.ttt_head_dim() / 2;
  config.ttt.mini_batch = 1;
  config.ttt.inner_norm = false;
  config.ttt.share_qk = true;
  config.ttt.qk_l2norm = true;
  config.ttt.qk_l2norm_eps = 0.01f;
  config.ttt.rope = false;
  config.ttt.lr_gate = "hard";
  config.ttt.lr_gate_stretch = 20.0f;
  config.ttt.lr_scale = "one";
  config.ttt.post_norm = false;
  config.ttt.use_gate = true;
  config.ttt.gate_act = "sigmoid";
  config.pre_conv = true;
  config.user_token = kUser;
  config.assistant_token = kAssistant;
  return config;
}

// Layers of attention to a window among those.
ModelConfig Hybrid(const ModelConfig& ttt, int64_t window) {
  ModelConfig config = Delta(ttt);
  config.layers = 5;
  config.mixers = {MixerType::kAttention, MixerType::kAttention,
                   MixerType::kDelta, MixerType::kAttention, MixerType::kDelta};
  config.attention = {.kv_heads = ttt.heads,
                      .head_dim = ttt.model_dim / ttt.heads,
                      .window = window,
                      .pairs = RotationPairs::kNeighbours};
  return config;
}

// The same sizes with Infini-attention, two query heads to a memory.
ModelConfig Infini(const ModelConfig& ttt, int64_t segment) {
  ModelConfig config = ttt;
  config.model_type = "infini-llama";
  config.mixers = {MixerType::kInfini};
  config.infini.kv_heads = ttt.heads / 2;
  config.infini.head_dim = ttt.ttt_head_dim();
  config.infini.segment = segment;
  return config;
}

// The same sizes with attention to a window and four sinks.
ModelConfig Window(const ModelConfig& ttt, int64_t window) {
  ModelConfig config = ttt;
  config.model_type = "llama";
  config.mixers = {MixerType::kAttention};
  config.attention = {.kv_heads = ttt.heads / 2,
                      .head_dim = ttt.ttt_head_dim(),
                      .window = window,
                      .sinks = 4};
  return config;
}

// The same sizes with Transformer-XL's layers, and a vocabulary of two bands.
ModelConfig TransformerXl(const ModelConfig& ttt, int64_t memory) {
  ModelConfig config = ttt;
  config.model_type = "transfo-xl";
  config.mixers = {MixerType::kRelativeAttention};
  config.norm = NormType::kLayer;
  config.norm_place = NormPlace::kAfter;
  config.norm_eps = 1e-5f;
  config.final_norm = false;
  config.activation = Activation::kRelu;
  config.ffn_dim = 4 * ttt.model_dim;
  config.ffn_gate = false;
  config.ffn_bias = true;
  config.adaptive = AdaptiveConfig{.cutoffs = {ttt.vocab_size / 2},
                                   .embed_dim = ttt.model_dim,
                                   .div_val = 4,
                                   .tie_projs = {false, true}};
  config.relative = {
      .head_dim = ttt.ttt_head_dim(), .memory = memory, .clamp = memory / 2};
  return config;
}

const std::map<std::string, ModelConfig>& Presets() {
  static const auto* const presets = [] {
    ModelConfig tiny;
    tiny.vocab_size = kByteVocabulary;
    tiny.model_dim = 64;
    tiny.ffn_dim = 176;
    tiny.layers = 2;
    tiny.heads = 4;
    ModelConfig base;
    base.vocab_size = 32000;
    base.model_dim = 768;
    base.ffn_dim = 2048;
    base.layers = 12;
    base.heads = 12;
    for (ModelConfig* config : {&tiny, &base}) {
      config->tokenizer = "bytes";
      config->bos_token = kBos;
      config->eos_tokens = {kEnd};
    }
    ModelConfig mlp_tiny = tiny;
    ModelConfig mlp_base = base;
    for (ModelConfig* config : {&mlp_tiny, &mlp_base}) {
      config->ttt.layer_type = "mlp";
      config->ttt.base_lr = 0.1f;
    }
    return new std::map<std::string, ModelConfig>{
        {"delta-125m", Delta(base)},
        {"delta-tiny", Delta(tiny)},
        {"hybrid-tiny", Hybrid(tiny, /*window=*/40)},
        {"infini-125m", Infini(base, /*segment=*/2048)},
        {"infini-tiny", Infini(tiny, /*segment=*/128)},
        {"transformer-xl-125m", TransformerXl(base, /*memory=*/1024)},
        {"transformer-xl-tiny", TransformerXl(tiny, /*memory=*/100)},
        {"ttt-linear-125m", base},
        {"ttt-linear-tiny", tiny},
        {"ttt-mlp-125m", mlp_base},
        {"ttt-mlp-tiny", mlp_tiny},
        {"window-125m", Window(base, /*window=*/1024)},
        {"window-tiny", Window(tiny, /*window=*/100)}};
  }();
  return *presets;
}

// Draws the values of tensors, in one stream in the order of their making.
class RandomTensors {
 public:
  explicit RandomTensors(uint64_t seed) : state_(seed) {}

  Tensor Draw(const std::string& name, const Shape& shape) {
    const auto [mean, deviation] = Distribution(name, shape);
    Tensor tensor(shape);
    for (float& value : tensor.mutable_values()) {
      value = mean + deviation * Normal();
    }
    return tensor;
  }

 private:
  struct Parameters {
    float mean;
    float deviation;
  };

  static Parameters Distribution(const std::string& name, const Shape& shape) {
    const auto has = [&name](const char* part) {
      return absl::StrContains(name, part);
    };
    if (has("norm") && has("weight")) return {1.0f, 0.05f};
    if (has("learnable_ttt_lr_bias")) return {0.0f, 0.1f};
    // Of the inner model and of how it learns.
    if (has("learnable") || has(".W1") || has(".W2")) return {0.0f, 0.02f};
    if (has(".beta")) return {0.0f, 1.0f};
    if (has("bias") || has(".b1") || has(".b2")) return {0.0f, 0.05f};
    // A projection keeps the size of what it maps.
    return {0.0f, 1.0f / std::sqrt(static_cast<float>(shape.back()))};
  }

  // SplitMix64.
  uint64_t Next() {
    uint64_t x = state_ += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  // The sum of four uniform numbers, scaled to variance 1: near enough to a
  // normal number, and the same bits with every libm.
  float Normal() {
    const uint64_t bits = Next();
    float sum = 0.0f;
    for (int i = 0; i < 4; ++i) {
      sum += static_cast<float>((bits >> (16 * i)) & 0xffff) / 65536.0f - 0.5f;
    }
    return sum * 1.7320508f;
  }

  uint64_t state_;
};

// Stands where a model's backend would be while its tensors are created.
class NoPreparer final : public Preparer {
 public:
  absl::StatusOr<std::unique_ptr<const Matrix>> PrepareMatrix(
      const TensorView& weight) override {
    struct Empty final : Matrix {
      Empty(int64_t out, int64_t in) : Matrix(out, in, 0) {}
    };
    return std::make_unique<Empty>(weight.shape[0], weight.shape.back());
  }
  absl::Status Reserve(const MixerParams&, int64_t) override {
    return absl::OkStatus();
  }
  absl::Status Multiply(const Matrix&, ConstRows, Rows) override {
    return absl::OkStatus();
  }
};

absl::Status WriteConfig(const ModelConfig& c, const std::string& path) {
  std::ofstream file(path, std::ios::trunc);
  file << ToConfigJson(c);
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const auto& [name, config] : Presets()) names.push_back(name);
  return names;
}

std::vector<std::string> TinyPresetNames() {
  std::vector<std::string> names;
  for (const auto& [name, config] : Presets()) {
    if (absl::EndsWith(name, "-tiny")) names.push_back(name);
  }
  return names;
}

absl::StatusOr<ModelConfig> PresetConfig(const std::string& preset) {
  const auto it = Presets().find(preset);
  if (it == Presets().end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("preset \"", preset, "\" is not known, want one of ",
                     absl::StrJoin(PresetNames(), ", ")));
  }
  return it->second;
}

absl::Status WriteRandomModel(const ModelConfig& c, uint64_t seed,
                              const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat(
        "cannot make directory ", directory, ": ", error.message()));
  }
  RandomTensors random(seed);
  Weights weights =
      Weights::Creating([&random](const std::string& name, const Shape& shape) {
        return random.Draw(name, shape);
      });
  NoPreparer preparer;
  MNEME_RETURN_IF_ERROR(Model::CreateWeights(c, weights, preparer));
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : weights.created()) {
    tensors.push_back({.name = name,
                       .view = {.data = tensor.data(),
                                .dtype = DType::kF32,
                                .shape = tensor.shape()}});
  }
  MNEME_RETURN_IF_ERROR(
      WriteSafetensors(directory + "/model.safetensors", tensors));
  return WriteConfig(c, directory + "/config.json");
}

}  // namespace mneme
