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
  keys.MustBe("architectures", nlohmann::json::array({"BloomForCausalLM"}));
  config.vocab_size = 250880;
  config.model_dim = 64;
  config.layers = 2;
  config.heads = 8;
  keys.Int("vocab_size", 1, kMaxVocabulary, config.vocab_size);
  keys.Alias("n_embed", "hidden_size");  // in older files
  keys.Alias("num_hidden_layers", "n_layer");
  keys.Alias("num_attention_heads", "n_head");
  keys.Int("hidden_size", 1, kMaxDim, config.model_dim);
  keys.Int("n_layer", 1, 1024, config.layers);
  keys.Int("n_head", 1, kMaxDim, config.heads);
  config.ffn_dim = 4 * config.model_dim;
  config.embedding_norm = true;
  config.activation = Activation::kGeluTanh;
  ReadGptLayers(AttentionPositions::kSlopes, keys, config);
  ReadAttentionSpan(keys, config.attention);
  keys.MustBe("apply_residual_connection_post_layernorm", false);
  // Of training, of how its first trainer split products, and what it was
  // trained on at a time.
  for (const char* key :
       {"hidden_dropout", "attention_dropout", "slow_but_exact", "seq_length",
        "bias_dropout_fusion", "masked_softmax_fusion", "skip_bias_add",
        "skip_bias_add_qkv", "offset_alibi", "unk_token_id",
        "attention_softmax_in_fp32"}) {
    keys.Ignore(key);
  }
}

absl::Status Check(const ModelConfig& config) {
  if (config.model_dim % config.heads != 0) {
    return Contradiction(absl::StrCat("\"hidden_size\" is ", config.model_dim,
                                      ", want a multiple of \"n_head\", ",
                                      config.heads));
  }
  return CheckAttentionSpan(config.attention);
}

nlohmann::json ToJson(const ModelConfig& config) {
  nlohmann::json out = {{"hidden_size", config.model_dim},
                        {"n_layer", config.layers},
                        {"n_head", config.heads},
                        {"layer_norm_epsilon", config.norm_eps}};
  AttentionSpanToJson(config.attention, out);
  return out;
}

TensorSource LayerSource(const std::string& prefix, const ModelConfig& config,
                         const LayerTensor& tensor) {
  const std::string layer = absl::StrCat(prefix, "h.", tensor.layer, ".");
  absl::string_view rest = tensor.rest;
  const int64_t head_dim = config.attention.head_dim;
  int64_t index = 0;
  for (const char* name :
       {"self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."}) {
    if (absl::ConsumePrefix(&rest, name)) {  // side by side in every head
      return {
          .name = absl::StrCat(layer, "self_attention.query_key_value.", rest),
          .all_rows = 3 * config.model_dim,
          .first = index * head_dim,
          .run = head_dim,
          .period = 3 * head_dim};
    }
    ++index;
  }
  for (const auto& [ours, theirs] :
       {std::pair<const char*, const char*>{"self_attn.o_proj.",
                                            "self_attention.dense."},
        {"mlp.up_proj.", "mlp.dense_h_to_4h."},
        {"mlp.down_proj.", "mlp.dense_4h_to_h."}}) {
    if (absl::ConsumePrefix(&rest, ours)) {
      return {.name = absl::StrCat(layer, theirs, rest)};
    }
  }
  return {.name = layer + tensor.rest};
}

absl::Status Adapt(const ModelConfig& config, Weights& weights) {
  // The first files had no prefix.
  const std::string prefix =
      weights.Has("word_embeddings.weight") ? "" : "transformer.";
  weights.SetSources([config, prefix](const std::string& name) -> TensorSource {
    const absl::optional<LayerTensor> tensor = ParseLayerTensor(name);
    if (tensor.has_value()) return LayerSource(prefix, config, *tensor);
    absl::string_view rest = name;
    for (const auto& [ours, theirs] :
         {std::pair<const char*, const char*>{"model.embed_tokens.",
                                              "word_embeddings."},
          {"model.embed_norm.", "word_embeddings_layernorm."},
          {"model.norm.", "ln_f."}}) {
      if (absl::ConsumePrefix(&rest, ours)) {
        return {.name = absl::StrCat(prefix, theirs, rest)};
      }
    }
    return {.name = name};
  });
  return absl::OkStatus();
}

}  // namespace

const Family kBloomFamily = {"bloom", &Read,  &Check,
                             &ToJson, &Adapt, kSpanSettings};

}  // namespace mneme
