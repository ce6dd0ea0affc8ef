// SPDX-License-Identifier: Apache-2.0
#include "engine/tools/presets.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "engine/model/safetensors.h"

namespace mneme {
namespace {

// Control tokens of the byte vocabulary.
constexpr int32_t kBos = 256;
constexpr int32_t kEnd = 259;
constexpr int64_t kByteVocabulary = 264;

// The same sizes with Infini-attention, two query heads to a memory.
ModelConfig Infini(const ModelConfig& ttt, int64_t segment) {
  ModelConfig config = ttt;
  config.model_type = "infini-llama";
  config.mixer = MixerType::kInfini;
  config.names = kLlamaNames;
  config.infini.kv_heads = ttt.heads / 2;
  config.infini.head_dim = ttt.head_dim();
  config.infini.segment = segment;
  return config;
}

// The same sizes with attention to a window and four sinks.
ModelConfig Llama(const ModelConfig& ttt, int64_t window) {
  ModelConfig config = ttt;
  config.model_type = "llama";
  config.mixer = MixerType::kAttention;
  config.names = kLlamaNames;
  config.attention = {.kv_heads = ttt.heads / 2,
                      .head_dim = ttt.head_dim(),
                      .window = window,
                      .sinks = 4};
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
        {"infini-125m", Infini(base, /*segment=*/2048)},
        {"infini-tiny", Infini(tiny, /*segment=*/128)},
        {"llama-125m", Llama(base, /*window=*/1024)},
        {"llama-tiny", Llama(tiny, /*window=*/100)},
        {"ttt-linear-125m", base},
        {"ttt-linear-tiny", tiny},
        {"ttt-mlp-125m", mlp_base},
        {"ttt-mlp-tiny", mlp_tiny}};
  }();
  return *presets;
}

// A tensor's values, drawn in one stream in the order of their making.
class RandomTensors {
 public:
  explicit RandomTensors(uint64_t seed) : state_(seed) {}

  void Add(const std::string& name, Shape shape, float mean, float deviation) {
    Tensor& tensor = tensors_.emplace_back(std::move(shape));
    for (float& value : tensor.mutable_values()) {
      value = mean + deviation * Normal();
    }
    names_.push_back(name);
  }
  // A projection [out, in] that keeps the size of what it maps.
  void AddProjection(const std::string& name, int64_t out, int64_t in) {
    Add(name, {out, in}, 0.0f, 1.0f / std::sqrt(static_cast<float>(in)));
  }
  void AddNorm(const std::string& name, Shape shape) {
    Add(name, std::move(shape), 1.0f, 0.05f);
  }

  absl::Status Write(const std::string& path) const {
    std::vector<NamedTensor> named;
    for (size_t i = 0; i < names_.size(); ++i) {
      named.push_back({.name = names_[i],
                       .view = {.data = tensors_[i].data(),
                                .dtype = DType::kF32,
                                .shape = tensors_[i].shape()}});
    }
    return WriteSafetensors(path, named);
  }

 private:
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
  std::vector<std::string> names_;
  std::vector<Tensor> tensors_;
};

void AddTtt(const ModelConfig& c, const std::string& prefix,
            RandomTensors& random) {
  random.AddProjection(prefix + "q_proj.weight", c.model_dim, c.model_dim);
  random.AddProjection(prefix + "v_proj.weight", c.model_dim, c.model_dim);
  random.AddProjection(prefix + "o_proj.weight", c.model_dim, c.model_dim);
  if (c.ttt.share_qk) {
    for (const char* conv : {"conv_q", "conv_k"}) {
      random.Add(absl::StrCat(prefix, conv, ".weight"),
                 {c.model_dim, 1, c.conv_kernel}, 0.0f, 0.5f);
      random.Add(absl::StrCat(prefix, conv, ".bias"), {c.model_dim}, 0.0f,
                 0.05f);
    }
  } else {
    random.AddProjection(prefix + "k_proj.weight", c.model_dim, c.model_dim);
  }
  if (c.ttt.use_gate) {
    random.AddProjection(prefix + "g_proj.weight", c.model_dim, c.model_dim);
  }
  random.Add(prefix + "learnable_token_idx", {c.ttt.mini_batch}, 0.0f, 0.02f);
  random.Add(prefix + "learnable_ttt_lr_weight", {c.heads, 1, c.model_dim},
             0.0f, 0.02f);
  random.Add(prefix + "learnable_ttt_lr_bias", {c.heads, 1}, 0.0f, 0.1f);
  random.AddNorm(prefix + "ttt_norm_weight", {c.heads, c.head_dim()});
  random.Add(prefix + "ttt_norm_bias", {c.heads, c.head_dim()}, 0.0f, 0.02f);
  random.AddNorm(prefix + "post_norm.weight", {c.model_dim});
  random.Add(prefix + "post_norm.bias", {c.model_dim}, 0.0f, 0.02f);
  const int64_t head_dim = c.head_dim();
  if (c.ttt.layer_type == "mlp") {
    random.Add(prefix + "W1", {c.heads, head_dim, 4 * head_dim}, 0.0f, 0.02f);
    random.Add(prefix + "b1", {c.heads, 1, 4 * head_dim}, 0.0f, 0.02f);
    random.Add(prefix + "W2", {c.heads, 4 * head_dim, head_dim}, 0.0f, 0.02f);
    random.Add(prefix + "b2", {c.heads, 1, head_dim}, 0.0f, 0.02f);
  } else {
    random.Add(prefix + "W1", {c.heads, head_dim, head_dim}, 0.0f, 0.02f);
    random.Add(prefix + "b1", {c.heads, 1, head_dim}, 0.0f, 0.02f);
  }
}

void AddInfini(const ModelConfig& c, const std::string& prefix,
               RandomTensors& random) {
  const int64_t query_dim = c.heads * c.infini.head_dim;
  const int64_t kv_dim = c.infini.kv_heads * c.infini.head_dim;
  random.AddProjection(prefix + "q_proj.weight", query_dim, c.model_dim);
  random.AddProjection(prefix + "k_proj.weight", kv_dim, c.model_dim);
  random.AddProjection(prefix + "v_proj.weight", kv_dim, c.model_dim);
  random.AddProjection(prefix + "o_proj.weight", c.model_dim, query_dim);
  random.Add(prefix + "beta", {c.heads}, 0.0f, 1.0f);
}

void AddAttention(const ModelConfig& c, const std::string& prefix,
                  RandomTensors& random) {
  const AttentionConfig& attention = c.attention;
  const int64_t query_dim = c.heads * attention.head_dim;
  const int64_t kv_dim = attention.kv_heads * attention.head_dim;
  const auto add = [&](const char* name, int64_t out, int64_t in, bool bias) {
    random.AddProjection(absl::StrCat(prefix, name, ".weight"), out, in);
    if (bias) {
      random.Add(absl::StrCat(prefix, name, ".bias"), {out}, 0.0f, 0.1f);
    }
  };
  add("q_proj", query_dim, c.model_dim, attention.qkv_bias);
  add("k_proj", kv_dim, c.model_dim, attention.qkv_bias);
  add("v_proj", kv_dim, c.model_dim, attention.qkv_bias);
  add("o_proj", c.model_dim, query_dim, attention.o_bias);
  if (attention.qk_norm) {
    random.AddNorm(prefix + "q_norm.weight", {attention.head_dim});
    random.AddNorm(prefix + "k_norm.weight", {attention.head_dim});
  }
}

void AddMixer(const ModelConfig& c, const std::string& prefix,
              RandomTensors& random) {
  switch (c.mixer) {
    case MixerType::kTtt:
      return AddTtt(c, prefix, random);
    case MixerType::kInfini:
      return AddInfini(c, prefix, random);
    case MixerType::kAttention:
      return AddAttention(c, prefix, random);
  }
}

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
  random.Add("model.embed_tokens.weight", {c.vocab_size, c.model_dim}, 0.0f,
             c.tie_word_embeddings
                 ? 1.0f / std::sqrt(static_cast<float>(c.model_dim))
                 : 0.5f);
  if (!c.tie_word_embeddings) {
    random.AddProjection("lm_head.weight", c.vocab_size, c.model_dim);
  }
  random.AddNorm("model.norm.weight", {c.model_dim});
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    random.AddNorm(absl::StrCat(prefix, c.names.mixer_norm), {c.model_dim});
    random.AddNorm(absl::StrCat(prefix, c.names.ffn_norm), {c.model_dim});
    random.AddProjection(prefix + "mlp.gate_proj.weight", c.ffn_dim,
                         c.model_dim);
    random.AddProjection(prefix + "mlp.up_proj.weight", c.ffn_dim, c.model_dim);
    random.AddProjection(prefix + "mlp.down_proj.weight", c.model_dim,
                         c.ffn_dim);
    if (c.pre_conv) {
      random.AddNorm(prefix + "conv.norm.weight", {c.model_dim});
      random.Add(prefix + "conv.conv.weight", {c.model_dim, 1, c.conv_kernel},
                 0.0f, 0.3f);
      random.Add(prefix + "conv.conv.bias", {c.model_dim}, 0.0f, 0.05f);
    }
    AddMixer(c, absl::StrCat(prefix, c.names.mixer), random);
  }
  MNEME_RETURN_IF_ERROR(random.Write(directory + "/model.safetensors"));
  return WriteConfig(c, directory + "/config.json");
}

}  // namespace mneme
