// SPDX-License-Identifier: Apache-2.0
//
// What a model is composed of, whatever family its config.json is of.
#ifndef MNEME_ENGINE_MODEL_MODEL_CONFIG_H_
#define MNEME_ENGINE_MODEL_MODEL_CONFIG_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/ops/backend.h"

namespace mneme {

enum class MixerType { kTtt, kDelta, kInfini, kAttention, kRelativeAttention };
enum class NormType { kRms, kLayer };
// Where a layer's norms stand: before its mixer and feed-forward part, or
// after what they are added to.
enum class NormPlace { kBefore, kAfter };

// By what angles positions turn the pairs of a head.
struct RopeConfig {
  float theta = 10000.0f;
  std::string type = "default";  // or "linear", "llama3", "yarn"
  float factor = 1.0f;           // the angles of long waves are divided by it
  // Of "llama3": what waves are long, by how often they fit in the length that
  // the model was trained with at first.
  float low_freq_factor = 1.0f;
  float high_freq_factor = 4.0f;
  int64_t original_positions = 8192;
  // Of "yarn": by how often waves fit, from which on they stay, and from which
  // on they grow longer; and what queries and keys are multiplied with.
  float beta_fast = 32.0f;
  float beta_slow = 1.0f;
  bool truncate = true;  // the pairs between are whole numbers
  float attention_factor = 1.0f;
};

// How attention knows where tokens are.
enum class AttentionPositions {
  kRotary,
  kSlopes,  // scores fall with the distance: ALiBi
  kNone,    // not at all, or from the embedding
};

// Settings of TTT layers, those of the delta rule included. The defaults are
// those of the published 1.3B model.
struct TttConfig {
  std::string layer_type = "linear";  // or "mlp"
  int64_t heads = 0;                  // 0: as many as attention has
  int64_t head_dim = 0;               // 0: what the heads leave of the model
  float base_lr = 1.0f;
  int64_t mini_batch = 16;
  bool inner_norm = true;  // norm, residual and bias of the inner model
  bool share_qk = false;
  bool qk_l2norm = false;  // queries and keys x / sqrt(Σ x² + eps)
  float qk_l2norm_eps = 1e-6f;
  bool rope = true;  // rotation by the slot in the mini-batch
  float rope_theta = 10000.0f;
  std::string lr_gate = "sigmoid";  // or "hard"
  float lr_gate_stretch = 0;        // of "hard", above 0
  std::string lr_scale = "base/d";  // or "one"
  bool post_norm = true;            // LayerNorm of the joined heads
  bool use_gate = false;
  std::string gate_act = "gelu";  // or "sigmoid"
};

// Settings of Infini-attention layers.
struct InfiniConfig {
  int64_t kv_heads = 32;
  int64_t head_dim = 128;
  int64_t segment = 2048;
  std::string update_rule = "linear";  // or "linear_delta"
  float epsilon = 1e-10f;
  float rope_theta = 10000.0f;
  // Of all heads, before the sigmoid, where the checkpoint has none.
  absl::optional<float> gate;
};

// Settings of attention layers.
struct AttentionConfig {
  int64_t kv_heads = 32;
  int64_t head_dim = 128;
  int64_t window = 0;  // tokens that one sees, itself included
  int64_t sinks = 0;   // first tokens that all see
  // Tokens of which all see all before them, and after which no more are
  // taken; 0: there is a window instead.
  int64_t limit = 0;
  AttentionPositions positions = AttentionPositions::kRotary;
  RopeConfig rope;
  RotationPairs pairs = RotationPairs::kHalves;
  bool qkv_bias = false;
  bool o_bias = false;
  bool qk_norm = false;  // RMSNorm of each query and key head
};

// Settings of Transformer-XL's layers.
struct RelativeAttentionConfig {
  int64_t head_dim = 64;
  int64_t memory = 1600;     // older tokens that a segment sees
  int64_t clamp = 1000;      // the largest distance told apart; 0: none
  bool same_length = true;   // every token sees as many as every other
  int64_t segment = 0;       // tokens; without same_length
  bool zero_memory = true;   // a session begins with a memory of zeros
  bool shared_bias = false;  // of all layers
  // Where segments begin whose lengths differ; empty: one after every
  // `segment` tokens. Only reference cases have such.
  std::vector<int64_t> segment_begins;

  // Older tokens that a token sees at most.
  int64_t kept() const {
    return same_length ? memory - 1 : memory + segment - 1;
  }
  // Distances that are told apart.
  int64_t distances() const {
    return clamp > 0 ? std::min(kept(), clamp) + 1 : kept() + 1;
  }
};

// A vocabulary in bands, frequent tokens first, whose rows grow narrower.
struct AdaptiveConfig {
  std::vector<int64_t> cutoffs;  // where bands after the first begin
  int64_t embed_dim = 1024;      // of the first band
  int64_t div_val = 1;           // a band is that much narrower than the last
  std::vector<bool> tie_projs;   // per band: the head's is the embedding's

  int64_t bands() const { return static_cast<int64_t>(cutoffs.size()) + 1; }
  int64_t first_token(int64_t band) const {
    return band == 0 ? 0 : cutoffs[band - 1];
  }
  int64_t tokens(int64_t band, int64_t vocab_size) const {
    return (band + 1 < bands() ? cutoffs[band] : vocab_size) -
           first_token(band);
  }
  int64_t width(int64_t band) const {
    int64_t width = embed_dim;
    for (int64_t i = 0; i < band; ++i) width /= div_val;
    return width;
  }
  bool one_width() const { return div_val == 1; }
  bool projects(int64_t model_dim) const {
    return !one_width() || embed_dim != model_dim;
  }
};

struct ModelConfig {
  std::string model_type = "ttt";
  int64_t vocab_size = 32000;
  int64_t model_dim = 2048;  // hidden_size
  int64_t ffn_dim = 5504;    // intermediate_size
  int64_t layers = 24;       // num_hidden_layers
  int64_t heads = 32;        // num_attention_heads
  NormType norm = NormType::kRms;
  NormPlace norm_place = NormPlace::kBefore;
  float norm_eps = 1e-6f;
  bool embedding_norm = false;
  bool final_norm = true;
  int64_t positions = 0;  // that have a learned embedding
  Activation activation = Activation::kSilu;
  bool ffn_gate = true;
  bool ffn_bias = false;
  bool tie_word_embeddings = true;
  absl::optional<AdaptiveConfig> adaptive;
  bool pre_conv = false;
  int64_t conv_kernel = 4;
  // Of the layers in turn, and from the first again after the last.
  std::vector<MixerType> mixers = {MixerType::kTtt};
  TttConfig ttt;
  InfiniConfig infini;
  AttentionConfig attention;
  RelativeAttentionConfig relative;
  absl::optional<int32_t> bos_token;
  std::vector<int32_t> eos_tokens;
  std::string tokenizer = "none";  // or as Tokenizer::kind says
  bool lower_case = false;         // "words": text is made so before
  // As ChatTemplate::kind says; empty: the vocabulary's default.
  std::string chat_template;
  // Of the chat template "tokens".
  absl::optional<int32_t> user_token;
  absl::optional<int32_t> assistant_token;

  // The same settings in one form, whatever the file's spelling: what the
  // fingerprint covers.
  std::string canonical;

  // Tokens that a session may have; 0: any number.
  int64_t token_limit() const {
    return HasMixer(MixerType::kAttention) ? attention.limit : 0;
  }

  int64_t ttt_heads() const { return ttt.heads > 0 ? ttt.heads : heads; }
  int64_t ttt_head_dim() const {
    return ttt.head_dim > 0 ? ttt.head_dim : model_dim / ttt_heads();
  }

  MixerType mixer(int64_t layer) const {
    return mixers[layer % static_cast<int64_t>(mixers.size())];
  }
  bool HasMixer(MixerType mixer) const {
    return std::find(mixers.begin(), mixers.end(), mixer) != mixers.end();
  }
};

// Keys of ours and their values, as JSON has them, that hold instead of what a
// config.json says, where its family has such keys.
using ModelSettings = std::map<std::string, std::string>;

// Reads config.json as Hugging Face checkpoints have it. INVALID_ARGUMENT
// naming the key, the found and the wanted for a model_type or key that is
// unknown, of a wrong type or out of range, or that contradicts another. Keys
// that can not change the result are passed over. `default_tokenizer` is what
// holds where the file names none.
absl::StatusOr<ModelConfig> ParseModelConfig(
    std::string_view json_text, std::string_view default_tokenizer = "none",
    const ModelSettings& settings = {});

// The text of a config.json that says what `config` says: its keys in one
// order, and none left out.
std::string ToConfigJson(const ModelConfig& config);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MODEL_CONFIG_H_
