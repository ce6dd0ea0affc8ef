// SPDX-License-Identifier: Apache-2.0
//
// What a model is composed of, whatever family its config.json is of.
#ifndef MNEME_ENGINE_MODEL_MODEL_CONFIG_H_
#define MNEME_ENGINE_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"

namespace mneme {

enum class MixerType { kTtt, kInfini, kAttention };

// By what angles positions turn the pairs of a head.
struct RopeConfig {
  float theta = 10000.0f;
  std::string type = "default";  // or "linear", "llama3"
  float factor = 1.0f;           // the angles of long waves are divided by it
  // Of "llama3": what waves are long, by how often they fit in the length that
  // the model was trained with at first.
  float low_freq_factor = 1.0f;
  float high_freq_factor = 4.0f;
  int64_t original_positions = 8192;
};

// Settings of TTT layers. The defaults are those of the published 1.3B model.
struct TttConfig {
  std::string layer_type = "linear";  // or "mlp"
  float base_lr = 1.0f;
  int64_t mini_batch = 16;
  bool share_qk = false;
  bool use_gate = false;
  float rope_theta = 10000.0f;
};

// Settings of Infini-attention layers.
struct InfiniConfig {
  int64_t kv_heads = 32;
  int64_t head_dim = 128;
  int64_t segment = 2048;
  std::string update_rule = "linear";  // or "linear_delta"
  float epsilon = 1e-10f;
  float rope_theta = 10000.0f;
};

// Settings of attention layers.
struct AttentionConfig {
  int64_t kv_heads = 32;
  int64_t head_dim = 128;
  int64_t window = 0;  // tokens that one sees, itself included
  int64_t sinks = 0;   // first tokens that all see
  RopeConfig rope;
  bool qkv_bias = false;
  bool o_bias = false;
  bool qk_norm = false;  // RMSNorm of each query and key head
};

// What a family calls the tensors of a layer, behind "model.layers.N.".
struct LayerNames {
  const char* mixer_norm;
  const char* mixer;  // a prefix
  const char* ffn_norm;
};
inline constexpr LayerNames kTttNames = {.mixer_norm = "seq_norm.weight",
                                         .mixer = "seq_modeling_block.",
                                         .ffn_norm = "ffn_norm.weight"};
inline constexpr LayerNames kLlamaNames = {
    .mixer_norm = "input_layernorm.weight",
    .mixer = "self_attn.",
    .ffn_norm = "post_attention_layernorm.weight"};

struct ModelConfig {
  std::string model_type = "ttt";
  int64_t vocab_size = 32000;
  int64_t model_dim = 2048;  // hidden_size
  int64_t ffn_dim = 5504;    // intermediate_size
  int64_t layers = 24;       // num_hidden_layers
  int64_t heads = 32;        // num_attention_heads
  float rms_norm_eps = 1e-6f;
  bool tie_word_embeddings = true;
  bool pre_conv = false;
  int64_t conv_kernel = 4;
  LayerNames names = kTttNames;
  MixerType mixer = MixerType::kTtt;  // of every layer
  TttConfig ttt;
  InfiniConfig infini;
  AttentionConfig attention;
  absl::optional<int32_t> bos_token;
  std::vector<int32_t> eos_tokens;
  std::string tokenizer = "none";  // or "bytes", "sentencepiece"

  // The same settings in one form, whatever the file's spelling: what the
  // fingerprint covers.
  std::string canonical;

  // Of a TTT head.
  int64_t head_dim() const { return model_dim / heads; }
};

// Reads config.json as Hugging Face checkpoints have it. INVALID_ARGUMENT
// naming the key, the found and the wanted for a model_type or key that is
// unknown, of a wrong type or out of range, or that contradicts another. Keys
// that can not change the result are passed over. `default_tokenizer` is what
// holds where the file names none.
absl::StatusOr<ModelConfig> ParseModelConfig(
    std::string_view json_text, std::string_view default_tokenizer = "none");

// The text of a config.json that says what `config` says: its keys in one
// order, and none left out.
std::string ToConfigJson(const ModelConfig& config);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MODEL_CONFIG_H_
