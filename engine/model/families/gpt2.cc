// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/model/families/family.h"

namespace mneme {
namespace {

void Read(KeyReader& keys, ModelConfig& config) {
  keys.MustBe("architectures", nlohmann::json::array({"GPT2LMHeadModel"}));
  config.vocab_size = 50257;
  config.model_dim = 768;
  config.layers = 12;
  config.heads = 12;
  config.positions = 1024;
  config.bos_token = 50256;
  config.eos_tokens = {50256};
  keys.Int("vocab_size", 1, kMaxVocabulary, config.vocab_size);
  keys.Int("n_embd", 1, kMaxDim, config.model_dim);
  keys.Int("n_layer", 1, 1024, config.layers);
  keys.Int("n_head", 1, kMaxDim, config.heads);
  keys.Int("n_positions", 1, kMaxDim, config.positions);
  config.ffn_dim = 4 * config.model_dim;
  keys.IntOrNull("n_inner", 1, kMaxDim, config.ffn_dim);
  ReadActivation("activation_function", "gelu_new", keys, config);
  ReadGptLayers(AttentionPositions::kNone, keys, config);
  // There is no embedding for more.
  config.attention.limit = config.positions;
  keys.Int("attention_limit", 1, config.positions, config.attention.limit);
  keys.MustBe("scale_attn_weights", true);
  keys.MustBe("scale_attn_by_inverse_layer_idx", false);
  keys.MustBe("add_cross_attention", false);
  // Of training, of other tasks, of precision that is not lost here, and what
  // another key says too.
  for (const char* key :
       {"resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_type",
        "summary_use_proj", "summary_activation", "summary_proj_to_labels",
        "summary_first_dropout", "reorder_and_upcast_attn", "n_ctx"}) {
    keys.Ignore(key);
  }
}

absl::Status Check(const ModelConfig& config) {
  if (config.model_dim % config.heads != 0) {
    return Contradiction(absl::StrCat("\"n_embd\" is ", config.model_dim,
                                      ", want a multiple of \"n_head\", ",
                                      config.heads));
  }
  return absl::OkStatus();
}

nlohmann::json ToJson(const ModelConfig& config) {
  return {{"n_embd", config.model_dim},
          {"n_layer", config.layers},
          {"n_head", config.heads},
          {"n_positions", config.positions},
          {"n_inner", config.ffn_dim},
          {"activation_function", ActivationName(config.activation)},
          {"layer_norm_epsilon", config.norm_eps},
          {"attention_limit", config.attention.limit}};
}

// Its maps are stored as [in, out].
TensorSource LayerSource(const std::string& prefix, const ModelConfig& config,
                         const LayerTensor& tensor) {
  const std::string layer = absl::StrCat(prefix, "h.", tensor.layer, ".");
  absl::string_view rest = tensor.rest;
  const auto map = [&](const char* name) {
    return TensorSource{.name = absl::StrCat(layer, name, rest),
                        .transposed = rest == "weight"};
  };
  int64_t index = 0;
  for (const char* name :
       {"self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."}) {
    if (absl::ConsumePrefix(&rest, name)) {
      TensorSource source = map("attn.c_attn.");
      source.all_rows = 3 * config.model_dim;
      source.first = index * config.model_dim;
      source.run = config.model_dim;
      source.period = config.model_dim;
      return source;
    }
    ++index;
  }
  if (absl::ConsumePrefix(&rest, "self_attn.o_proj.")) {
    return map("attn.c_proj.");
  }
  if (absl::ConsumePrefix(&rest, "mlp.up_proj.")) return map("mlp.c_fc.");
  if (absl::ConsumePrefix(&rest, "mlp.down_proj.")) return map("mlp.c_proj.");
  if (absl::ConsumePrefix(&rest, "input_layernorm.")) {
    return {.name = absl::StrCat(layer, "ln_1.", rest)};
  }
  if (absl::ConsumePrefix(&rest, "post_attention_layernorm.")) {
    return {.name = absl::StrCat(layer, "ln_2.", rest)};
  }
  return {.name = layer + tensor.rest};
}

absl::Status Adapt(const ModelConfig& config, Weights& weights) {
  // The first files had no prefix.
  const std::string prefix = weights.Has("wte.weight") ? "" : "transformer.";
  weights.SetSources([config, prefix](const std::string& name) -> TensorSource {
    const absl::optional<LayerTensor> tensor = ParseLayerTensor(name);
    if (tensor.has_value()) return LayerSource(prefix, config, *tensor);
    if (name == "model.embed_tokens.weight")
      return {.name = prefix + "wte.weight"};
    if (name == "model.embed_positions.weight") {
      return {.name = prefix + "wpe.weight"};
    }
    absl::string_view rest = name;
    if (absl::ConsumePrefix(&rest, "model.norm.")) {
      return {.name = absl::StrCat(prefix, "ln_f.", rest)};
    }
    return {.name = name};
  });
  // Masks that some files carry.
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    for (const char* mask : {"attn.bias", "attn.masked_bias"}) {
      weights.Ignore(absl::StrCat(prefix, "h.", layer, ".", mask));
    }
  }
  return absl::OkStatus();
}

constexpr const char* kSettings[] = {"attention_limit"};

}  // namespace

const Family kGpt2Family = {"gpt2", &Read, &Check, &ToJson, &Adapt, kSettings};

}  // namespace mneme
