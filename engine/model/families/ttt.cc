// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/model/families/family.h"

namespace mneme {
namespace {

void Read(KeyReader& keys, ModelConfig& config) {
  ReadSizes(keys, config);
  config.mixers = {MixerType::kTtt};
  keys.MustBe("architectures", nlohmann::json::array({"TTTForCausalLM"}));
  keys.MustBe("hidden_act", "silu");
  config.ttt.layer_type = keys.Choice("ttt_layer_type", {"linear", "mlp"});
  keys.PositiveFloat("rope_theta", config.ttt.rope_theta);
  keys.PositiveFloat("ttt_base_lr", config.ttt.base_lr);
  keys.Int("mini_batch_size", 1, 4096, config.ttt.mini_batch);
  keys.Bool("share_qk", config.ttt.share_qk);
  keys.Bool("use_gate", config.ttt.use_gate);
  keys.Bool("pre_conv", config.pre_conv);
  keys.Int("conv_kernel", 1, 64, config.conv_kernel);
}

absl::Status Check(const ModelConfig& config) {
  if (config.model_dim % config.heads != 0) {
    return Contradiction(absl::StrCat("\"hidden_size\" is ", config.model_dim,
                                      ", want a multiple of "
                                      "\"num_attention_heads\", ",
                                      config.heads));
  }
  if (config.head_dim() % 2 != 0) {
    return Contradiction(absl::StrCat(
        "\"hidden_size\" / \"num_attention_heads\" is ", config.head_dim(),
        ", want an even number for the rotation"));
  }
  return absl::OkStatus();
}

nlohmann::json ToJson(const ModelConfig& config) {
  nlohmann::json out = SizesToJson(config);
  out.update({{"rope_theta", config.ttt.rope_theta},
              {"ttt_layer_type", config.ttt.layer_type},
              {"ttt_base_lr", config.ttt.base_lr},
              {"mini_batch_size", config.ttt.mini_batch},
              {"share_qk", config.ttt.share_qk},
              {"use_gate", config.ttt.use_gate},
              {"pre_conv", config.pre_conv},
              {"conv_kernel", config.conv_kernel}});
  return out;
}

TensorSource SourceOf(const std::string& name) {
  const absl::optional<LayerTensor> tensor = ParseLayerTensor(name);
  if (!tensor.has_value()) return {.name = name};
  const std::string prefix = absl::StrCat("model.layers.", tensor->layer, ".");
  absl::string_view rest = tensor->rest;
  if (absl::ConsumePrefix(&rest, "self_attn.")) {
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

absl::Status Adapt(const ModelConfig& /*config*/, Weights& weights) {
  weights.SetSources(&SourceOf);
  return absl::OkStatus();
}

}  // namespace

const Family kTttFamily = {"ttt", &Read, &Check, &ToJson, &Adapt};

}  // namespace mneme
