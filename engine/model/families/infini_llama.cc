// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/families/family.h"

namespace mneme {
namespace {

// One over it is still a number of single precision.
constexpr float kLeastEpsilon = 1e-30f;

void Read(KeyReader& keys, ModelConfig& config) {
  config.model_dim = 4096;
  config.ffn_dim = 11008;
  config.layers = 32;
  config.tie_word_embeddings = false;
  ReadSizes(keys, config);
  config.mixers = {MixerType::kInfini};
  keys.MustBe("architectures",
              nlohmann::json::array({"InfiniLlamaForCausalLM"}));
  keys.MustBe("hidden_act", "silu");
  keys.MustBe("attention_bias", false);
  keys.MustBe("mlp_bias", false);
  keys.MustBe("rope_scaling", nullptr);
  InfiniConfig& infini = config.infini;
  ReadHeads(keys, config, infini.kv_heads, infini.head_dim);
  keys.PositiveFloat("rope_theta", infini.rope_theta);
  ReadInfini(keys, infini);
}

absl::Status Check(const ModelConfig& config) {
  const InfiniConfig& infini = config.infini;
  MNEME_RETURN_IF_ERROR(CheckHeads(config, infini.kv_heads, infini.head_dim));
  return CheckInfini(infini);
}

nlohmann::json ToJson(const ModelConfig& config) {
  const InfiniConfig& infini = config.infini;
  nlohmann::json out = SizesToJson(config);
  out.update({{"num_key_value_heads", infini.kv_heads},
              {"head_dim", infini.head_dim},
              {"rope_theta", infini.rope_theta}});
  out.update(InfiniToJson(infini));
  return out;
}

}  // namespace

void ReadInfini(KeyReader& keys, InfiniConfig& infini) {
  keys.MustBe("infini_memory_rope", false);
  keys.Int("infini_segment_length", 1, 1 << 16, infini.segment);
  infini.update_rule =
      keys.Choice("infini_update_rule", {"linear", "linear_delta"});
  keys.PositiveFloat("infini_memory_eps", infini.epsilon);
}

absl::Status CheckInfini(const InfiniConfig& infini) {
  if (infini.epsilon < kLeastEpsilon) {
    return Contradiction(absl::StrCat("\"infini_memory_eps\" is ",
                                      infini.epsilon, ", want at least ",
                                      kLeastEpsilon));
  }
  return absl::OkStatus();
}

nlohmann::json InfiniToJson(const InfiniConfig& infini) {
  return {{"infini_segment_length", infini.segment},
          {"infini_update_rule", infini.update_rule},
          {"infini_memory_eps", infini.epsilon}};
}

const Family kInfiniLlamaFamily = {"infini-llama", &Read, &Check, &ToJson};

}  // namespace mneme
