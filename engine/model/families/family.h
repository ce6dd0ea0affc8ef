// SPDX-License-Identifier: Apache-2.0
//
// Families of checkpoints: how each spells what a model is composed of. A
// reader takes its family's keys, all but model_type; what no reader knows,
// ParseModelConfig refuses.
#ifndef MNEME_ENGINE_MODEL_FAMILIES_FAMILY_H_
#define MNEME_ENGINE_MODEL_FAMILIES_FAMILY_H_

#include "absl/status/status.h"
#include "engine/model/config_keys.h"
#include "engine/model/model_config.h"

namespace mneme {

struct Family {
  const char* model_type;
  // Fills in what the keys say. A wrong value is left to KeyReader::Finish.
  void (*read)(KeyReader& keys, ModelConfig& config);
  // INVALID_ARGUMENT for values that do not go together. Called with values
  // that are good each by itself.
  absl::Status (*check)(const ModelConfig& config);
  // The keys that `read` takes and ReadSizes does not, as `config` has them.
  nlohmann::json (*to_json)(const ModelConfig& config);
};

// Reads the sizes that the families spell alike, where `config` holds their
// defaults.
void ReadSizes(KeyReader& keys, ModelConfig& config);

// Reads how many heads of keys and values there are, and how wide heads are;
// after ReadSizes.
void ReadHeads(KeyReader& keys, const ModelConfig& config, int64_t& kv_heads,
               int64_t& head_dim);

// INVALID_ARGUMENT unless query heads share kv heads evenly and heads can be
// rotated.
absl::Status CheckHeads(const ModelConfig& config, int64_t kv_heads,
                        int64_t head_dim);

// "ttt": the authors' checkpoints of TTT-Linear and TTT-MLP.
extern const Family kTttFamily;
// "infini-llama": Llama's keys and tensors with Infini-attention, one gate for
// each query head.
extern const Family kInfiniLlamaFamily;
// Decoders with attention, each served with a window: "attention_window", with
// "attention_sinks" if wanted, are keys of ours.
extern const Family kLlamaFamily;    // "llama"
extern const Family kMistralFamily;  // "mistral", has a window of its own
extern const Family kQwen2Family;    // "qwen2"
extern const Family kQwen3Family;    // "qwen3"

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_FAMILIES_FAMILY_H_
