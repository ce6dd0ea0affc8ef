// SPDX-License-Identifier: Apache-2.0
#include "engine/model/model_config.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/json_text.h"
#include "engine/base/status_macros.h"
#include "engine/model/config_keys.h"
#include "engine/model/families/family.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr int64_t kMaxHeadDim = 4096;

absl::StatusOr<const Family*> FamilyOf(const json& object) {
  const auto type = object.find("model_type");
  std::string wanted;
  for (const Family* family : AllFamilies()) {
    if (type != object.end() && *type == family->model_type) return family;
    absl::StrAppend(&wanted, wanted.empty() ? "\"" : " or \"",
                    family->model_type, "\"");
  }
  return Contradiction(absl::StrCat(
      "\"model_type\" is ", type == object.end() ? "missing" : ShowJson(*type),
      ", want ", wanted));
}

absl::Status ReadTokens(std::string_view default_tokenizer, KeyReader& keys,
                        ModelConfig& config) {
  config.tokenizer = keys.Choice(
      "tokenizer", {"none", "bytes", "sentencepiece", "huggingface", "words"},
      default_tokenizer);
  if (config.tokenizer == "words") keys.Bool("lower_case", config.lower_case);
  const std::string chat_template = keys.Choice(
      "chat_template",
      {"default", "plain", "chatml", "llama3", "mistral", "tokens"});
  if (chat_template != "default") config.chat_template = chat_template;
  keys.TokenId("user_token_id", config.user_token);
  keys.TokenId("assistant_token_id", config.assistant_token);
  std::vector<int32_t> bos;
  if (config.bos_token.has_value()) bos.push_back(*config.bos_token);
  if (config.tokenizer == "bytes") {  // the families' defaults are bytes there
    bos.clear();
    config.eos_tokens.clear();
  }
  keys.TokenIds("bos_token_id", bos);
  keys.TokenIds("eos_token_id", config.eos_tokens);
  if (bos.size() > 1) {
    return Contradiction("\"bos_token_id\" is a list, want one token id");
  }
  config.bos_token.reset();
  if (!bos.empty()) config.bos_token = bos[0];
  return absl::OkStatus();
}

absl::Status CheckTokens(const ModelConfig& config) {
  const bool bytes = config.tokenizer == "bytes";
  if (bytes && config.vocab_size < 256) {
    return Contradiction(absl::StrCat("\"vocab_size\" is ", config.vocab_size,
                                      ", want at least 256 for tokenizer "
                                      "\"bytes\""));
  }
  struct Control {
    const char* key;
    int32_t id;
  };
  std::vector<Control> control;
  const auto add = [&control](const char* key,
                              const absl::optional<int32_t>& id) {
    if (id.has_value()) control.push_back({key, *id});
  };
  add("bos_token_id", config.bos_token);
  for (const int32_t id : config.eos_tokens) add("eos_token_id", id);
  add("user_token_id", config.user_token);
  add("assistant_token_id", config.assistant_token);
  for (const auto& [key, id] : control) {
    if (id >= config.vocab_size) {
      return Contradiction(absl::StrCat("token id ", id, " of \"", key,
                                        "\", want below \"vocab_size\", ",
                                        config.vocab_size));
    }
    if (bytes && id < 256) {
      return Contradiction(absl::StrCat(
          "token id ", id, " of \"", key,
          "\" is a byte of tokenizer \"bytes\", want 256 or above, or null"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

void ReadSizes(KeyReader& keys, ModelConfig& config) {
  keys.Int("vocab_size", 1, kMaxVocabulary, config.vocab_size);
  keys.Int("hidden_size", 2, kMaxDim, config.model_dim);
  keys.Int("intermediate_size", 1, kMaxDim, config.ffn_dim);
  keys.Int("num_hidden_layers", 1, 1024, config.layers);
  keys.Int("num_attention_heads", 1, kMaxDim, config.heads);
  keys.PositiveFloat("rms_norm_eps", config.norm_eps);
  keys.Bool("tie_word_embeddings", config.tie_word_embeddings);
}

void ReadHeads(KeyReader& keys, const ModelConfig& config, int64_t& kv_heads,
               int64_t& head_dim) {
  kv_heads = config.heads;
  keys.Int("num_key_value_heads", 1, kMaxDim, kv_heads);
  head_dim = config.model_dim / config.heads;
  keys.Int("head_dim", 2, kMaxDim, head_dim);
}

absl::Status CheckHeads(const ModelConfig& config, int64_t kv_heads,
                        int64_t head_dim) {
  if (config.heads % kv_heads != 0) {
    return Contradiction(absl::StrCat("\"num_attention_heads\" is ",
                                      config.heads,
                                      ", want a multiple of "
                                      "\"num_key_value_heads\", ",
                                      kv_heads));
  }
  if (head_dim < 2 || head_dim % 2 != 0 || head_dim > kMaxHeadDim) {
    return Contradiction(absl::StrCat(
        "\"head_dim\", or else \"hidden_size\" / \"num_attention_heads\", is ",
        head_dim, ", want an even number for the rotation, from 2 to ",
        kMaxHeadDim));
  }
  if (config.heads > kMaxDim / head_dim) {
    return Contradiction(absl::StrCat(
        "\"num_attention_heads\" is ", config.heads, ", want at most ",
        kMaxDim / head_dim, " heads of ", head_dim));
  }
  return absl::OkStatus();
}

json SizesToJson(const ModelConfig& config) {
  return {{"hidden_size", config.model_dim},
          {"intermediate_size", config.ffn_dim},
          {"num_hidden_layers", config.layers},
          {"num_attention_heads", config.heads},
          {"rms_norm_eps", config.norm_eps}};
}

std::string ToConfigJson(const ModelConfig& config) {
  json out = {{"model_type", config.model_type},
              {"vocab_size", config.vocab_size},
              {"tie_word_embeddings", config.tie_word_embeddings},
              {"bos_token_id", nullptr},
              {"eos_token_id", config.eos_tokens},
              {"tokenizer", config.tokenizer}};
  if (config.tokenizer == "words") out["lower_case"] = config.lower_case;
  if (config.bos_token.has_value()) out["bos_token_id"] = *config.bos_token;
  if (!config.chat_template.empty())
    out["chat_template"] = config.chat_template;
  if (config.user_token.has_value()) out["user_token_id"] = *config.user_token;
  if (config.assistant_token.has_value()) {
    out["assistant_token_id"] = *config.assistant_token;
  }
  out.update(FamilyOf(config).to_json(config));
  return out.dump(2) + "\n";
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json_text,
                                             std::string_view default_tokenizer,
                                             const ModelSettings& settings) {
  MNEME_ASSIGN_OR_RETURN(json object,
                         ParseJsonObject(json_text, "config.json"));
  MNEME_ASSIGN_OR_RETURN(const Family* const family, FamilyOf(object));
  for (const char* key : family->settings) {
    const auto found = settings.find(key);
    if (found == settings.end()) continue;
    json value = json::parse(found->second, nullptr, false);
    if (value.is_discarded()) {
      return Contradiction(absl::StrCat("setting \"", key, "\" is ",
                                        found->second, ", want JSON"));
    }
    object[key] = std::move(value);
  }
  ModelConfig config;
  config.model_type = family->model_type;
  KeyReader keys(std::move(object));
  keys.MustBe("model_type", family->model_type);
  config.bos_token = 1;  // of most families
  config.eos_tokens = {2};
  family->read(keys, config);
  const absl::Status tokens = ReadTokens(default_tokenizer, keys, config);
  MNEME_RETURN_IF_ERROR(keys.Finish());
  MNEME_RETURN_IF_ERROR(tokens);
  MNEME_RETURN_IF_ERROR(family->check(config));
  MNEME_RETURN_IF_ERROR(CheckTokens(config));
  config.canonical = ToConfigJson(config);
  return config;
}

}  // namespace mneme
