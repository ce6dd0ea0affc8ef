// SPDX-License-Identifier: Apache-2.0
#include "engine/model/model_config.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/json_text.h"

namespace mneme {
namespace {

using nlohmann::json;

// Keys that describe training, caching in another program, or the file
// itself; also those that transformers writes for every family, which mean
// nothing to this one. The tensors say themselves what dtype they have.
// max_position_embeddings is not used by this family's forward pass, and
// pretraining_tp only splits its products.
constexpr auto kHarmlessKeys =
    std::to_array<std::string_view>({"_attn_implementation_autoset",
                                     "_commit_hash",
                                     "_name_or_path",
                                     "auto_map",
                                     "chunk_size_feed_forward",
                                     "dropout",
                                     "dtype",
                                     "finetuning_task",
                                     "id2label",
                                     "initializer_range",
                                     "is_decoder",
                                     "is_encoder_decoder",
                                     "label2id",
                                     "max_position_embeddings",
                                     "output_attentions",
                                     "output_hidden_states",
                                     "pad_token_id",
                                     "prefix",
                                     "pretraining_tp",
                                     "problem_type",
                                     "return_dict",
                                     "scan_checkpoint_group_size",
                                     "task_specific_params",
                                     "tokenizer_class",
                                     "torch_dtype",
                                     "torchscript",
                                     "transformers_version",
                                     "use_bfloat16",
                                     "use_cache"});

// The largest size that any dimension may have: products of three of them
// still fit 64 bits.
constexpr int64_t kMaxDim = int64_t{1} << 20;

// Takes keys out of a config object, one typed read each, so that what is
// left at the end is unknown.
class KeyReader {
 public:
  explicit KeyReader(json object) : object_(std::move(object)) {}

  // The value, removed; discarded if there is none.
  json Take(const char* key) {
    const auto it = object_.find(key);
    if (it == object_.end()) return json(json::value_t::discarded);
    json value = std::move(*it);
    object_.erase(it);
    return value;
  }

  // Each leaves `value` as it is if the key is absent.
  void Int(const char* key, int64_t min, int64_t max, int64_t& value) {
    const json found = Take(key);
    if (found.is_discarded()) return;
    if (!found.is_number_integer() || found.get<double>() < double(min) ||
        found.get<double>() > double(max)) {
      Wrong(key, found, absl::StrCat("an integer from ", min, " to ", max));
      return;
    }
    value = found.get<int64_t>();
  }

  void PositiveFloat(const char* key, float& value) {
    const json found = Take(key);
    if (found.is_discarded()) return;
    if (!found.is_number() || !(found.get<float>() > 0) ||
        !(found.get<double>() < 1e9)) {
      Wrong(key, found, "a number above 0 and below 1e9");
      return;
    }
    value = found.get<float>();
  }

  void Bool(const char* key, bool& value) {
    const json found = Take(key);
    if (found.is_discarded()) return;
    if (!found.is_boolean()) {
      Wrong(key, found, "true or false");
      return;
    }
    value = found.get<bool>();
  }

  // One of `choices`; `absent`, or else the first of them, if there is no key.
  std::string Choice(const char* key, std::vector<std::string> choices,
                     std::string_view absent = {}) {
    const json found = Take(key);
    if (found.is_discarded()) {
      return absent.empty() ? choices[0] : std::string(absent);
    }
    for (const std::string& choice : choices) {
      if (found == choice) return choice;
    }
    std::string wanted;
    for (const std::string& choice : choices) {
      absl::StrAppend(&wanted, wanted.empty() ? "\"" : " or \"", choice, "\"");
    }
    Wrong(key, found, wanted);
    return choices[0];
  }

  // A token id, a list of them, or null for none.
  void TokenIds(const char* key, std::vector<int32_t>& ids) {
    const json found = Take(key);
    if (found.is_discarded()) return;
    ids.clear();
    if (found.is_null()) return;
    for (const json& id : found.is_array() ? found : json::array({found})) {
      if (!id.is_number_integer() || id < 0 || id >= kMaxDim * 16) {
        Wrong(key, found, "a token id, a list of them, or null");
        return;
      }
      ids.push_back(id.get<int32_t>());
    }
  }

  absl::Status Finish() {
    MNEME_RETURN_IF_ERROR(status_);
    for (const std::string_view key : kHarmlessKeys) {
      object_.erase(std::string(key));
    }
    if (!object_.empty()) {
      const auto item = object_.items().begin();
      return absl::InvalidArgumentError(absl::StrCat(
          "config.json: \"", item.key(), "\" is ", ShowJson(item.value()),
          ", a key that this model type does not have"));
    }
    return absl::OkStatus();
  }

 private:
  void Wrong(const char* key, const json& found, const std::string& wanted) {
    status_.Update(absl::InvalidArgumentError(absl::StrCat(
        "config.json: \"", key, "\" is ", ShowJson(found), ", want ", wanted)));
  }

  json object_;
  absl::Status status_;  // of the first wrong key
};

absl::Status Contradiction(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("config.json: ", what));
}

// What the file says it is for, if it does.
absl::Status CheckArchitectures(const json& found) {
  if (found.is_discarded() || found == json::array({"TTTForCausalLM"})) {
    return absl::OkStatus();
  }
  return Contradiction(absl::StrCat("\"architectures\" is ", ShowJson(found),
                                    ", want [\"TTTForCausalLM\"]"));
}

absl::Status CheckTogether(const ModelConfig& config) {
  if (config.model_dim % config.heads != 0) {
    return Contradiction(absl::StrCat("\"hidden_size\" is ", config.model_dim,
                                      ", want a multiple of "
                                      "\"num_attention_heads\", ",
                                      config.heads));
  }
  if (config.head_dim() % 2 != 0) {
    return Contradiction(absl::StrCat(
        "\"hidden_size\" / \"num_attention_heads\" is ", config.head_dim(),
        ", want an even number for the rotation"));
  }
  const bool bytes = config.tokenizer == "bytes";
  if (bytes && config.vocab_size < 256) {
    return Contradiction(absl::StrCat("\"vocab_size\" is ", config.vocab_size,
                                      ", want at least 256 for tokenizer "
                                      "\"bytes\""));
  }
  std::vector<int32_t> control = config.eos_tokens;
  if (config.bos_token.has_value()) control.push_back(*config.bos_token);
  for (const int32_t id : control) {
    if (id >= config.vocab_size) {
      return Contradiction(
          absl::StrCat("token id ", id,
                       " of \"bos_token_id\" or \"eos_token_id\", want "
                       "below \"vocab_size\", ",
                       config.vocab_size));
    }
    if (bytes && id < 256) {
      return Contradiction(absl::StrCat(
          "token id ", id,
          " of \"bos_token_id\" or \"eos_token_id\" is a "
          "byte of tokenizer \"bytes\", want 256 or above, or null"));
    }
  }
  return absl::OkStatus();
}

std::string Canonical(const ModelConfig& c) {
  json out = {{"model_type", c.model_type},
              {"vocab_size", c.vocab_size},
              {"hidden_size", c.model_dim},
              {"intermediate_size", c.ffn_dim},
              {"num_hidden_layers", c.layers},
              {"num_attention_heads", c.heads},
              {"rms_norm_eps", c.rms_norm_eps},
              {"tie_word_embeddings", c.tie_word_embeddings},
              {"rope_theta", c.rope_theta},
              {"ttt_layer_type", c.ttt_layer_type},
              {"ttt_base_lr", c.ttt_base_lr},
              {"mini_batch_size", c.mini_batch},
              {"share_qk", c.share_qk},
              {"use_gate", c.use_gate},
              {"pre_conv", c.pre_conv},
              {"conv_kernel", c.conv_kernel},
              {"eos_token_id", c.eos_tokens},
              {"tokenizer", c.tokenizer}};
  if (c.bos_token.has_value()) out["bos_token_id"] = *c.bos_token;
  return out.dump();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(
    std::string_view json_text, std::string_view default_tokenizer) {
  MNEME_ASSIGN_OR_RETURN(json object,
                         ParseJsonObject(json_text, "config.json"));
  const auto type = object.find("model_type");
  if (type == object.end() || *type != "ttt") {
    return absl::InvalidArgumentError(absl::StrCat(
        "config.json: \"model_type\" is ",
        type == object.end() ? "missing" : ShowJson(*type), ", want \"ttt\""));
  }

  ModelConfig config;
  KeyReader keys(std::move(object));
  keys.Choice("model_type", {"ttt"});
  config.ttt_layer_type = keys.Choice("ttt_layer_type", {"linear", "mlp"});
  keys.Choice("hidden_act", {"silu"});
  MNEME_RETURN_IF_ERROR(CheckArchitectures(keys.Take("architectures")));
  keys.Int("vocab_size", 1, kMaxDim * 16, config.vocab_size);
  keys.Int("hidden_size", 2, kMaxDim, config.model_dim);
  keys.Int("intermediate_size", 1, kMaxDim, config.ffn_dim);
  keys.Int("num_hidden_layers", 1, 1024, config.layers);
  keys.Int("num_attention_heads", 1, kMaxDim, config.heads);
  keys.PositiveFloat("rms_norm_eps", config.rms_norm_eps);
  keys.Bool("tie_word_embeddings", config.tie_word_embeddings);
  keys.PositiveFloat("rope_theta", config.rope_theta);
  keys.PositiveFloat("ttt_base_lr", config.ttt_base_lr);
  keys.Int("mini_batch_size", 1, 4096, config.mini_batch);
  keys.Bool("share_qk", config.share_qk);
  keys.Bool("use_gate", config.use_gate);
  keys.Bool("pre_conv", config.pre_conv);
  keys.Int("conv_kernel", 1, 64, config.conv_kernel);
  config.tokenizer = keys.Choice(
      "tokenizer", {"none", "bytes", "sentencepiece"}, default_tokenizer);
  std::vector<int32_t> bos = {1};
  config.eos_tokens = {2};
  if (config.tokenizer == "bytes") {  // the family's defaults are bytes there
    bos.clear();
    config.eos_tokens.clear();
  }
  keys.TokenIds("bos_token_id", bos);
  keys.TokenIds("eos_token_id", config.eos_tokens);
  MNEME_RETURN_IF_ERROR(keys.Finish());
  if (bos.size() > 1) {
    return Contradiction("\"bos_token_id\" is a list, want one token id");
  }
  if (!bos.empty()) config.bos_token = bos[0];
  MNEME_RETURN_IF_ERROR(CheckTogether(config));
  config.canonical = Canonical(config);
  return config;
}

}  // namespace mneme
