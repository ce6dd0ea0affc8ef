// SPDX-License-Identifier: Apache-2.0
//
// Llama and those that differ from it in a few keys: their tensors have the
// same names.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/families/family.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr int64_t kMaxPositions = int64_t{1} << 40;

// YaRN's answer to the question how much sharper scores are to be.
float YarnScale(float factor, float times) {
  return factor <= 1 ? 1.0f : 0.1f * times * std::log(factor) + 1.0f;
}

void ReadYarn(KeyReader& keys, RopeConfig& rope) {
  rope.original_positions = 0;
  keys.Int("original_max_position_embeddings", 1, kMaxPositions,
           rope.original_positions);
  keys.PositiveFloatOrNull("beta_fast", rope.beta_fast);
  keys.PositiveFloatOrNull("beta_slow", rope.beta_slow);
  keys.Bool("truncate", rope.truncate);
  float times = 0;
  float times_all = 0;
  keys.PositiveFloatOrNull("mscale", times);
  keys.PositiveFloatOrNull("mscale_all_dim", times_all);
  rope.attention_factor =
      times > 0 && times_all > 0
          ? YarnScale(rope.factor, times) / YarnScale(rope.factor, times_all)
          : YarnScale(rope.factor, 1);
  keys.PositiveFloatOrNull("attention_factor", rope.attention_factor);
}

void ReadScaling(KeyReader& keys, RopeConfig& rope) {
  // Older files say "type".
  const char* key = keys.Has("rope_type") ? "rope_type" : "type";
  rope.type = keys.Choice(key, {"default", "linear", "llama3", "yarn"});
  keys.PositiveFloat("rope_theta", rope.theta);
  rope.factor = rope.type == "default" ? 1.0f : 0.0f;
  keys.PositiveFloat("factor", rope.factor);
  if (rope.type == "llama3") {
    keys.PositiveFloat("low_freq_factor", rope.low_freq_factor);
    keys.PositiveFloat("high_freq_factor", rope.high_freq_factor);
    keys.Int("original_max_position_embeddings", 1, kMaxPositions,
             rope.original_positions);
  }
  if (rope.type == "yarn") ReadYarn(keys, rope);
  keys.MustBe("partial_rotary_factor", 1.0);
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
  ReadActivation("hidden_act", "silu", keys, config);
  AttentionConfig& attention = config.attention;
  ReadHeads(keys, config, attention.kv_heads, attention.head_dim);
  ReadRope(keys, attention.rope);
  ReadAttentionSpan(keys, attention);
}

// One key for all four projections.
void ReadBias(KeyReader& keys, AttentionConfig& attention) {
  keys.Bool("attention_bias", attention.qkv_bias);
  attention.o_bias = attention.qkv_bias;
}

// The weights as they are, with Infini-attention and one gate for all heads.
void ReadGate(KeyReader& keys, ModelConfig& config) {
  if (!keys.Has("infini_gate")) return;
  config.mixers = {MixerType::kInfini};
  InfiniConfig& infini = config.infini;
  infini.gate = 0;
  keys.Number("infini_gate", *infini.gate);
  infini.kv_heads = config.attention.kv_heads;
  infini.head_dim = config.attention.head_dim;
  infini.rope_theta = config.attention.rope.theta;
  ReadInfini(keys, infini);
}

absl::Status CheckGate(const ModelConfig& config) {
  const AttentionConfig& attention = config.attention;
  const auto no = [](const char* key, const char* wanted) {
    return Contradiction(absl::StrCat("\"", key, "\" stands beside ",
                                      "\"infini_gate\", want ", wanted));
  };
  if (attention.window > 0 || attention.sinks > 0) {
    return no("attention_window", "segments and a memory, or a window");
  }
  if (attention.limit > 0) {
    return no("attention_limit", "segments and a memory, or a limit");
  }
  if (attention.qkv_bias) return no("attention_bias", "false");
  if (attention.rope.type != "default") {
    return no("rope_type", "\"default\": positions count inside a segment");
  }
  MNEME_RETURN_IF_ERROR(
      CheckHeads(config, attention.kv_heads, attention.head_dim));
  return CheckInfini(config.infini);
}

void ReadLlama(KeyReader& keys, ModelConfig& config) {
  config.model_dim = 4096;
  config.ffn_dim = 11008;
  config.layers = 32;
  config.tie_word_embeddings = false;
  ReadDecoder("LlamaForCausalLM", keys, config);
  ReadBias(keys, config.attention);
  keys.Bool("mlp_bias", config.ffn_bias);
  ReadGate(keys, config);
}

void ReadMistral(KeyReader& keys, ModelConfig& config) {
  config.model_dim = 4096;
  config.ffn_dim = 14336;
  config.layers = 32;
  config.tie_word_embeddings = false;
  // The model's, unless a key of ours says otherwise.
  int64_t window = 0;
  keys.IntOrNull("sliding_window", 1, kMaxDim, window);
  ReadDecoder("MistralForCausalLM", keys, config);
  AttentionConfig& attention = config.attention;
  if (attention.window == 0 && (attention.limit == 0 || window > 0)) {
    attention.window = window;
  }
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
  MNEME_RETURN_IF_ERROR(CheckAttentionSpan(attention));
  const RopeConfig& rope = attention.rope;
  if (rope.type == "llama3" && rope.high_freq_factor <= rope.low_freq_factor) {
    return Contradiction(absl::StrCat(
        "\"high_freq_factor\" is ", rope.high_freq_factor,
        ", want above \"low_freq_factor\", ", rope.low_freq_factor));
  }
  if (rope.factor == 0) {
    return Contradiction(absl::StrCat("\"factor\" is missing beside \"",
                                      rope.type,
                                      "\", want by what angles are divided"));
  }
  if (rope.type == "yarn" && rope.original_positions == 0) {
    return Contradiction(
        "\"original_max_position_embeddings\" is missing beside \"yarn\", want "
        "the length that the model was trained with at first");
  }
  return absl::OkStatus();
}

json RopeJson(const RopeConfig& rope) {
  json out = {{"rope_type", rope.type}, {"rope_theta", rope.theta}};
  if (rope.type != "default") out["factor"] = rope.factor;
  if (rope.type == "yarn") {
    out["original_max_position_embeddings"] = rope.original_positions;
    out["beta_fast"] = rope.beta_fast;
    out["beta_slow"] = rope.beta_slow;
    out["truncate"] = rope.truncate;
    out["attention_factor"] = rope.attention_factor;
  }
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
              {"hidden_act", ActivationName(config.activation)},
              {"rope_parameters", RopeJson(attention.rope)}});
  AttentionSpanToJson(attention, out);
  return out;
}

// Of those that may have biases.
json ToJsonWithBias(const ModelConfig& config) {
  json out = ToJson(config);
  out["attention_bias"] = config.attention.qkv_bias;
  return out;
}

absl::Status CheckLlama(const ModelConfig& config) {
  return config.infini.gate.has_value() ? CheckGate(config) : Check(config);
}

json LlamaToJson(const ModelConfig& config) {
  json out = ToJsonWithBias(config);
  out["mlp_bias"] = config.ffn_bias;
  if (config.infini.gate.has_value()) {
    const float gate = *config.infini.gate;
    out["infini_gate"] =
        std::isinf(gate) ? json(gate < 0 ? "-inf" : "inf") : json(gate);
    out.update(InfiniToJson(config.infini));
    for (const char* key : kSpanSettings) out.erase(key);
  }
  return out;
}

constexpr const char* kLlamaSettings[] = {
    "attention_window",      "attention_sinks",    "attention_limit",
    "infini_gate",           "infini_update_rule", "infini_memory_eps",
    "infini_segment_length",
};

}  // namespace

const Family kLlamaFamily = {"llama",      &ReadLlama, &CheckLlama,
                             &LlamaToJson, nullptr,    kLlamaSettings};
const Family kMistralFamily = {"mistral", &ReadMistral, &Check,
                               &ToJson,   nullptr,      kSpanSettings};
const Family kQwen2Family = {"qwen2", &ReadQwen2, &Check,
                             &ToJson, nullptr,    kSpanSettings};
const Family kQwen3Family = {"qwen3",         &ReadQwen3, &Check,
                             &ToJsonWithBias, nullptr,    kSpanSettings};

}  // namespace mneme
