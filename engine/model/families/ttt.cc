// SPDX-License-Identifier: Apache-2.0
//
// Beside the keys of the authors' checkpoints there are some of ours, whose
// defaults are what the authors' code does: hybrids with attention to a
// window, and settings of the layer down to the plain delta rule.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/model/families/family.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr char kMemoryLayer[] = "ttt";
constexpr char kAttentionLayer[] = "sliding_attention";

void ReadLayers(KeyReader& keys, ModelConfig& config) {
  const MixerType memory =
      config.ttt.inner_norm ? MixerType::kTtt : MixerType::kDelta;
  std::vector<std::string> types(config.layers, kMemoryLayer);
  keys.Choices("layer_types", {kMemoryLayer, kAttentionLayer}, types);
  config.mixers.clear();
  for (const std::string& type : types) {
    config.mixers.push_back(type == kMemoryLayer ? memory
                                                 : MixerType::kAttention);
  }
  config.attention = {.kv_heads = config.heads,
                      .head_dim = config.model_dim / config.heads,
                      .rope = {.theta = config.ttt.rope_theta},
                      .pairs = RotationPairs::kNeighbours};
  keys.Int("sliding_window", 1, kMaxDim, config.attention.window);
}

void Read(KeyReader& keys, ModelConfig& config) {
  ReadSizes(keys, config);
  keys.MustBe("architectures", json::array({"TTTForCausalLM"}));
  keys.MustBe("hidden_act", "silu");
  TttConfig& ttt = config.ttt;
  ttt.layer_type = keys.Choice("ttt_layer_type", {"linear", "mlp"});
  keys.Int("ttt_num_heads", 1, kMaxDim, ttt.heads);
  keys.Int("ttt_head_dim", 1, kMaxDim, ttt.head_dim);
  keys.Bool("ttt_inner_norm", ttt.inner_norm);
  keys.Bool("ttt_qk_l2norm", ttt.qk_l2norm);
  keys.PositiveFloat("ttt_qk_l2norm_eps", ttt.qk_l2norm_eps);
  keys.Bool("ttt_rope", ttt.rope);
  keys.PositiveFloat("rope_theta", ttt.rope_theta);
  keys.PositiveFloat("ttt_base_lr", ttt.base_lr);
  ttt.lr_gate = keys.Choice("ttt_lr_gate", {"sigmoid", "hard"});
  keys.PositiveFloat("ttt_lr_gate_stretch", ttt.lr_gate_stretch);
  ttt.lr_scale = keys.Choice("ttt_lr_scale", {"base/d", "one"});
  keys.Int("mini_batch_size", 1, 4096, ttt.mini_batch);
  keys.Bool("share_qk", ttt.share_qk);
  keys.Bool("ttt_post_norm", ttt.post_norm);
  keys.Bool("use_gate", ttt.use_gate);
  ttt.gate_act = keys.Choice("ttt_gate_act", {"gelu", "sigmoid"});
  keys.Bool("pre_conv", config.pre_conv);
  keys.Int("conv_kernel", 1, 64, config.conv_kernel);
  ReadLayers(keys, config);
}

// INVALID_ARGUMENT unless the model's width is that of `heads` heads.
absl::Status CheckWidth(const ModelConfig& config, const char* key,
                        int64_t heads) {
  if (config.model_dim % heads == 0) return absl::OkStatus();
  return Contradiction(absl::StrCat("\"hidden_size\" is ", config.model_dim,
                                    ", want a multiple of \"", key, "\", ",
                                    heads));
}

absl::Status CheckAttentionLayers(const ModelConfig& config) {
  MNEME_RETURN_IF_ERROR(
      CheckWidth(config, "num_attention_heads", config.heads));
  if (config.attention.window == 0) {
    return Contradiction(absl::StrCat(
        "\"layer_types\" has \"", kAttentionLayer,
        "\", want \"sliding_window\", the tokens that one of such a layer "
        "sees, itself included"));
  }
  return CheckHeads(config, config.attention.kv_heads,
                    config.attention.head_dim);
}

absl::Status CheckMemoryLayers(const ModelConfig& config) {
  const TttConfig& ttt = config.ttt;
  const char* heads_key =
      ttt.heads > 0 ? "ttt_num_heads" : "num_attention_heads";
  if (ttt.head_dim == 0) {
    MNEME_RETURN_IF_ERROR(CheckWidth(config, heads_key, config.ttt_heads()));
  }
  const int64_t head_dim = config.ttt_head_dim();
  if (config.ttt_heads() > kMaxDim / head_dim) {
    return Contradiction(absl::StrCat(
        "\"", heads_key, "\" is ", config.ttt_heads(), ", want at most ",
        kMaxDim / head_dim, " heads of ", head_dim));
  }
  if (ttt.rope && head_dim % 2 != 0) {
    const std::string what =
        ttt.head_dim > 0
            ? "\"ttt_head_dim\""
            : absl::StrCat("\"hidden_size\" / \"", heads_key, "\"");
    return Contradiction(absl::StrCat(
        what, " is ", head_dim,
        ", want an even number for the rotation, or \"ttt_rope\" false"));
  }
  if (ttt.lr_gate == "hard" && ttt.lr_gate_stretch == 0) {
    return Contradiction(
        "\"ttt_lr_gate\" is \"hard\", want \"ttt_lr_gate_stretch\", the "
        "number above 0 by which the sigmoid is stretched");
  }
  return absl::OkStatus();
}

// What the delta rule does not have.
absl::Status CheckPlainLayers(const ModelConfig& config) {
  if (config.ttt.layer_type != "linear") {
    return Contradiction(
        absl::StrCat("\"ttt_layer_type\" is \"", config.ttt.layer_type,
                     "\", want \"linear\" where \"ttt_inner_norm\" is false"));
  }
  if (config.ttt.mini_batch != 1) {
    return Contradiction(
        absl::StrCat("\"mini_batch_size\" is ", config.ttt.mini_batch,
                     ", want 1 where \"ttt_inner_norm\" is false"));
  }
  return absl::OkStatus();
}

absl::Status Check(const ModelConfig& config) {
  if (static_cast<int64_t>(config.mixers.size()) != config.layers) {
    return Contradiction(absl::StrCat(
        "\"layer_types\" has ", config.mixers.size(), " items, want ",
        config.layers, ", \"num_hidden_layers\""));
  }
  if (config.HasMixer(MixerType::kAttention)) {
    MNEME_RETURN_IF_ERROR(CheckAttentionLayers(config));
  }
  if (config.HasMixer(MixerType::kDelta)) {
    MNEME_RETURN_IF_ERROR(CheckPlainLayers(config));
  }
  if (config.HasMixer(MixerType::kTtt) || config.HasMixer(MixerType::kDelta)) {
    MNEME_RETURN_IF_ERROR(CheckMemoryLayers(config));
  }
  return absl::OkStatus();
}

json ToJson(const ModelConfig& config) {
  const TttConfig& ttt = config.ttt;
  json layer_types = json::array();
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    layer_types.push_back(config.mixer(layer) == MixerType::kAttention
                              ? kAttentionLayer
                              : kMemoryLayer);
  }
  json out = SizesToJson(config);
  out.update({{"layer_types", std::move(layer_types)},
              {"rope_theta", ttt.rope_theta},
              {"ttt_layer_type", ttt.layer_type},
              {"ttt_inner_norm", ttt.inner_norm},
              {"ttt_qk_l2norm", ttt.qk_l2norm},
              {"ttt_qk_l2norm_eps", ttt.qk_l2norm_eps},
              {"ttt_rope", ttt.rope},
              {"ttt_base_lr", ttt.base_lr},
              {"ttt_lr_gate", ttt.lr_gate},
              {"ttt_lr_scale", ttt.lr_scale},
              {"mini_batch_size", ttt.mini_batch},
              {"share_qk", ttt.share_qk},
              {"ttt_post_norm", ttt.post_norm},
              {"use_gate", ttt.use_gate},
              {"ttt_gate_act", ttt.gate_act},
              {"pre_conv", config.pre_conv},
              {"conv_kernel", config.conv_kernel}});
  // A model of attention alone need not be of a width for memory heads.
  if (config.HasMixer(MixerType::kTtt) || config.HasMixer(MixerType::kDelta)) {
    out["ttt_num_heads"] = config.ttt_heads();
    out["ttt_head_dim"] = config.ttt_head_dim();
  }
  if (ttt.lr_gate == "hard") out["ttt_lr_gate_stretch"] = ttt.lr_gate_stretch;
  if (config.HasMixer(MixerType::kAttention)) {
    out["sliding_window"] = config.attention.window;
  }
  return out;
}

TensorSource SourceOf(const ModelConfig& config, const std::string& name) {
  const absl::optional<LayerTensor> tensor = ParseLayerTensor(name);
  if (!tensor.has_value()) return {.name = name};
  const std::string prefix = absl::StrCat("model.layers.", tensor->layer, ".");
  absl::string_view rest = tensor->rest;
  if (config.mixer(tensor->layer) != MixerType::kAttention &&
      absl::ConsumePrefix(&rest, "self_attn.")) {
    return {.name = absl::StrCat(prefix, "seq_modeling_block.", rest)};
  }
  if (rest == "input_layernorm.weight") {
    return {.name = prefix + "seq_norm.weight"};
  }
  if (rest == "post_attention_layernorm.weight") {
    return {.name = prefix + "ffn_norm.weight"};
  }
  return {.name = name};
}

absl::Status Adapt(const ModelConfig& config, Weights& weights) {
  weights.SetSources(
      [config](const std::string& name) { return SourceOf(config, name); });
  return absl::OkStatus();
}

}  // namespace

const Family kTttFamily = {"ttt", &Read, &Check, &ToJson, &Adapt};

}  // namespace mneme
