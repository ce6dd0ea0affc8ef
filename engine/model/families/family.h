// SPDX-License-Identifier: Apache-2.0
//
// Families of checkpoints: how each spells what a model is composed of. A
// reader takes its family's keys, all but model_type; what no reader knows,
// ParseModelConfig refuses.
#ifndef MNEME_ENGINE_MODEL_FAMILIES_FAMILY_H_
#define MNEME_ENGINE_MODEL_FAMILIES_FAMILY_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "engine/model/config_keys.h"
#include "engine/model/model_config.h"
#include "engine/model/weights.h"

namespace mneme {

struct Family {
  const char* model_type;
  // Fills in what the keys say. A wrong value is left to KeyReader::Finish.
  void (*read)(KeyReader& keys, ModelConfig& config);
  // INVALID_ARGUMENT for values that do not go together. Called with values
  // that are good each by itself.
  absl::Status (*check)(const ModelConfig& config);
  // The keys that `read` takes, but for vocab_size and tie_word_embeddings, as
  // `config` has them.
  nlohmann::json (*to_json)(const ModelConfig& config);
  // Says how the family's checkpoints spell their tensors, and what of them
  // changes nothing. Errors as Weights. Null: as Llama's.
  absl::Status (*adapt)(const ModelConfig& config, Weights& weights) = nullptr;
  // The keys that ModelSettings may have.
  absl::Span<const char* const> settings = {};
};

absl::Span<const Family* const> AllFamilies();
// REQUIRES: config.model_type is one of theirs.
const Family& FamilyOf(const ModelConfig& config);

// The parts of "model.layers.N.rest".
struct LayerTensor {
  int64_t layer = 0;
  std::string rest;
};
absl::optional<LayerTensor> ParseLayerTensor(const std::string& name);

// Reads the sizes that the families spell alike, where `config` holds their
// defaults.
void ReadSizes(KeyReader& keys, ModelConfig& config);

// The keys that it reads, but for vocab_size and tie_word_embeddings.
nlohmann::json SizesToJson(const ModelConfig& config);

// Reads how many heads of keys and values there are, and how wide heads are;
// after ReadSizes.
void ReadHeads(KeyReader& keys, const ModelConfig& config, int64_t& kv_heads,
               int64_t& head_dim);

// INVALID_ARGUMENT unless query heads share kv heads evenly and heads can be
// rotated.
absl::Status CheckHeads(const ModelConfig& config, int64_t kv_heads,
                        int64_t head_dim);

// What ReadAttentionSpan reads.
inline constexpr const char* kSpanSettings[] = {
    "attention_window", "attention_sinks", "attention_limit"};

// Reads the settings of Infini-attention, but for the heads and the rotation.
void ReadInfini(KeyReader& keys, InfiniConfig& infini);
absl::Status CheckInfini(const InfiniConfig& infini);
nlohmann::json InfiniToJson(const InfiniConfig& infini);

// How much of its past a decoder with attention sees: "attention_window" with
// "attention_sinks", or "attention_limit", all keys of ours.
void ReadAttentionSpan(KeyReader& keys, AttentionConfig& attention);
// INVALID_ARGUMENT unless it is a window or a limit.
absl::Status CheckAttentionSpan(const AttentionConfig& attention);
void AttentionSpanToJson(const AttentionConfig& attention, nlohmann::json& out);

// What GPT-2 and those after its manner share: LayerNorms, biases everywhere, a
// feed-forward part without a gate, and as many heads of keys as of queries.
// After the sizes.
void ReadGptLayers(AttentionPositions positions, KeyReader& keys,
                   ModelConfig& config);

// The activation that `key` names as Hugging Face does; if absent, `absent`.
void ReadActivation(const char* key, std::string_view absent, KeyReader& keys,
                    ModelConfig& config);
std::string ActivationName(Activation activation);

// "ttt": the authors' checkpoints of TTT-Linear and TTT-MLP.
extern const Family kTttFamily;
// "infini-llama": Llama's keys and tensors with Infini-attention, one gate for
// each query head. Llama's own weights may have one gate for all.
extern const Family kInfiniLlamaFamily;
// Decoders with attention, each served with a window or up to a limit.
extern const Family kLlamaFamily;    // "llama"
extern const Family kMistralFamily;  // "mistral", has a window of its own
extern const Family kQwen2Family;    // "qwen2"
extern const Family kQwen3Family;    // "qwen3"
extern const Family kGpt2Family;     // "gpt2", learned positions
extern const Family kBloomFamily;    // "bloom", slopes by distance
// "transfo-xl": Transformer-XL with an adaptive vocabulary. "segment_length",
// wanted where "same_length" is false, and "mem_init" are keys of ours.
extern const Family kTransfoXlFamily;

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_FAMILIES_FAMILY_H_
