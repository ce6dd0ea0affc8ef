// SPDX-License-Identifier: Apache-2.0
//
// Llama and those that differ from it in a few keys: their tensors have the
// same names.
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/families/family.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr int64_t kMaxWindow = int64_t{1} << 20;
constexpr int64_t kMaxSinks = 1024;

void ReadScaling(KeyReader& keys, RopeConfig& rope) {
  // Older files say "type".
  const char* key = keys.Has("rope_type") ? "rope_type" : "type";
  rope.type = keys.Choice(key, {"default", "linear", "llama3"});
  keys.PositiveFloat("rope_theta", rope.theta);
  keys.PositiveFloat("factor", rope.factor);
  if (rope.type == "llama3") {
    keys.PositiveFloat("low_freq_factor", rope.low_freq_factor);
    keys.PositiveFloat("high_freq_factor", rope.high_freq_factor);
    keys.Int("original_max_position_embeddings", 1, int64_t{1} << 40,
             rope.original_positions);
  }
}

void ReadRope(KeyReader& keys, RopeConfig& rope) {
  keys.PositiveFloat("rope_theta", rope.theta);
  const auto read = [&rope](KeyReader& scaling) { ReadScaling(scaling, rope); };
  keys.Object("rope_scaling", read);
  keys.Object("rope_parameters", read);
}

// What all of them have, where `config` holds the family's defaults.
void ReadDecoder(const char* architecture, KeyReader& keys,
                 ModelConfig& config) {
  ReadSizes(keys, config);
  config.mixers = {MixerType::kAttention};
  keys.MustBe("architectures", json::array({architecture}));
  keys.MustBe("hidden_act", "silu");
  AttentionConfig& attention = config.attention;
  ReadHeads(keys, config, attention.kv_heads, attention.head_dim);
  ReadRope(keys, attention.rope);
  keys.Int("attention_window", 1, kMaxWindow, attention.window);
  keys.Int("attention_sinks", 0, kMaxSinks, attention.sinks);
}

// One key for all four projections.
void ReadBias(KeyReader& keys, AttentionConfig& attention) {
  keys.Bool("attention_bias", attention.qkv_bias);
  attention.o_bias = attention.qkv_bias;
}

void ReadLlama(KeyReader& keys, ModelConfig& config) {
  config.model_dim = 4096;
  config.ffn_dim = 11008;
  config.layers = 32;
  config.tie_word_embeddings = false;
  ReadDecoder("LlamaForCausalLM", keys, config);
  ReadBias(keys, config.attention);
  keys.MustBe("mlp_bias", false);
}

void ReadMistral(KeyReader& keys, ModelConfig& config) {
  config.model_dim = 4096;
  config.ffn_dim = 14336;
  config.layers = 32;
  config.tie_word_embeddings = false;
  // The model's, unless attention_window says otherwise.
  keys.IntOrNull("sliding_window", 1, kMaxWindow, config.attention.window);
  ReadDecoder("MistralForCausalLM", keys, config);
}

void ReadQwen(const char* architecture, KeyReader& keys, ModelConfig& config) {
  config.vocab_size = 151936;
  config.model_dim = 4096;
  config.ffn_dim = 22016;
  config.layers = 32;
  config.tie_word_embeddings = false;
  ReadDecoder(architecture, keys, config);
  // Windows that some layers may have and others not, switched off.
  keys.MustBe("use_sliding_window", false);
  keys.MustBeListOf("layer_types", "full_attention");
  keys.Ignore("sliding_window");
  keys.Ignore("max_window_layers");
}

void ReadQwen2(KeyReader& keys, ModelConfig& config) {
  ReadQwen("Qwen2ForCausalLM", keys, config);
  config.attention.qkv_bias = true;
  keys.MustBe("use_mrope", false);
}

void ReadQwen3(KeyReader& keys, ModelConfig& config) {
  ReadQwen("Qwen3ForCausalLM", keys, config);
  config.attention.qk_norm = true;
  ReadBias(keys, config.attention);
}

absl::Status Check(const ModelConfig& config) {
  const AttentionConfig& attention = config.attention;
  MNEME_RETURN_IF_ERROR(
      CheckHeads(config, attention.kv_heads, attention.head_dim));
  if (attention.window == 0) {
    return Contradiction(
        "this model attends to all of its past, which no state of a fixed size "
        "holds; want \"attention_window\", the number of newest tokens that it "
        "may see, and, if it is to see its first tokens too, "
        "\"attention_sinks\"");
  }
  const RopeConfig& rope = attention.rope;
  if (rope.type == "llama3" && rope.high_freq_factor <= rope.low_freq_factor) {
    return Contradiction(absl::StrCat(
        "\"high_freq_factor\" is ", rope.high_freq_factor,
        ", want above \"low_freq_factor\", ", rope.low_freq_factor));
  }
  return absl::OkStatus();
}

json RopeJson(const RopeConfig& rope) {
  json out = {{"rope_type", rope.type}, {"rope_theta", rope.theta}};
  if (rope.type != "default") out["factor"] = rope.factor;
  if (rope.type == "llama3") {
    out["low_freq_factor"] = rope.low_freq_factor;
    out["high_freq_factor"] = rope.high_freq_factor;
    out["original_max_position_embeddings"] = rope.original_positions;
  }
  return out;
}

json ToJson(const ModelConfig& config) {
  const AttentionConfig& attention = config.attention;
  json out = SizesToJson(config);
  out.update({{"num_key_value_heads", attention.kv_heads},
              {"head_dim", attention.head_dim},
              {"attention_window", attention.window},
              {"attention_sinks", attention.sinks},
              {"rope_parameters", RopeJson(attention.rope)}});
  return out;
}

// Of those that may have biases.
json ToJsonWithBias(const ModelConfig& config) {
  json out = ToJson(config);
  out["attention_bias"] = config.attention.qkv_bias;
  return out;
}

}  // namespace

const Family kLlamaFamily = {"llama", &ReadLlama, &Check, &ToJsonWithBias};
const Family kMistralFamily = {"mistral", &ReadMistral, &Check, &ToJson};
const Family kQwen2Family = {"qwen2", &ReadQwen2, &Check, &ToJson};
const Family kQwen3Family = {"qwen3", &ReadQwen3, &Check, &ToJsonWithBias};

}  // namespace mneme
