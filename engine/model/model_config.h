// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_MODEL_CONFIG_H_
#define MNEME_ENGINE_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"

namespace mneme {

// config.json of model_type "ttt", as Hugging Face checkpoints have it. The
// defaults are those of the published 1.3B model.
struct ModelConfig {
  std::string model_type = "ttt";
  int64_t vocab_size = 32000;
  int64_t model_dim = 2048;  // hidden_size
  int64_t ffn_dim = 5504;    // intermediate_size
  int64_t layers = 24;       // num_hidden_layers
  int64_t heads = 32;        // num_attention_heads
  float rms_norm_eps = 1e-6f;
  bool tie_word_embeddings = true;
  float rope_theta = 10000.0f;
  std::string ttt_layer_type = "linear";  // or "mlp"
  float ttt_base_lr = 1.0f;
  int64_t mini_batch = 16;  // mini_batch_size
  bool share_qk = false;
  bool use_gate = false;
  bool pre_conv = false;
  int64_t conv_kernel = 4;
  absl::optional<int32_t> bos_token;
  std::vector<int32_t> eos_tokens;
  std::string tokenizer = "none";  // or "bytes", "sentencepiece"

  // The same settings in one form, whatever the file's spelling: what the
  // fingerprint covers.
  std::string canonical;

  int64_t head_dim() const { return model_dim / heads; }
};

// Reads config.json. INVALID_ARGUMENT naming the key, the found and the
// wanted for a key that is unknown, of a wrong type or out of range, or that
// contradicts another; UNIMPLEMENTED for a setting of the family that this
// build does not compute. Keys that can not change the result are passed
// over. `default_tokenizer` is what holds where the file names none.
absl::StatusOr<ModelConfig> ParseModelConfig(
    std::string_view json_text, std::string_view default_tokenizer = "none");

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MODEL_CONFIG_H_
