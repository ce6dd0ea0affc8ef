// SPDX-License-Identifier: Apache-2.0
#include "engine/model/families/family.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/check.h"

namespace mneme {

namespace {

constexpr int64_t kMaxSpan = int64_t{1} << 20;
constexpr int64_t kMaxSinks = 1024;

struct NamedActivation {
  const char* name;
  Activation activation;
};
// The first name of each is the one that is written.
constexpr NamedActivation kActivations[] = {
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},
    {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"gelu_new", Activation::kGeluTanh},
    {"gelu_fast", Activation::kGeluTanh},
    {"gelu", Activation::kGeluErf},
    {"relu", Activation::kRelu}};

}  // namespace

absl::Span<const Family* const> AllFamilies() {
  static constexpr const Family* kFamilies[] = {
      &kTttFamily,     &kInfiniLlamaFamily, &kLlamaFamily,
      &kMistralFamily, &kQwen2Family,       &kQwen3Family,
      &kGpt2Family,    &kBloomFamily,       &kTransfoXlFamily};
  return kFamilies;
}

const Family& FamilyOf(const ModelConfig& config) {
  const absl::Span<const Family* const> all = AllFamilies();
  const auto* const found =
      std::find_if(all.begin(), all.end(), [&config](const Family* family) {
        return config.model_type == family->model_type;
      });
  MNEME_CHECK(found != all.end());
  return **found;
}

void ReadAttentionSpan(KeyReader& keys, AttentionConfig& attention) {
  keys.Int("attention_window", 1, kMaxSpan, attention.window);
  keys.Int("attention_sinks", 0, kMaxSinks, attention.sinks);
  keys.Int("attention_limit", 1, kMaxSpan, attention.limit);
}

absl::Status CheckAttentionSpan(const AttentionConfig& attention) {
  if (attention.limit > 0 && (attention.window > 0 || attention.sinks > 0)) {
    return Contradiction(
        "\"attention_limit\" stands beside a window or sinks, want one of "
        "them: "
        "up to a limit all tokens see all before them");
  }
  if (attention.limit == 0 && attention.window == 0) {
    return Contradiction(
        "this model attends to all of its past, which no state of a fixed size "
        "holds; want \"attention_window\", the number of newest tokens that it "
        "may see, with \"attention_sinks\" if it is to see its first tokens "
        "too; or \"attention_limit\", the number of tokens after which a "
        "session takes no more");
  }
  return absl::OkStatus();
}

void AttentionSpanToJson(const AttentionConfig& attention,
                         nlohmann::json& out) {
  if (attention.limit > 0) {
    out["attention_limit"] = attention.limit;
  } else {
    out["attention_window"] = attention.window;
    out["attention_sinks"] = attention.sinks;
  }
}

void ReadGptLayers(AttentionPositions positions, KeyReader& keys,
                   ModelConfig& config) {
  keys.Bool("tie_word_embeddings", config.tie_word_embeddings);
  config.norm = NormType::kLayer;
  config.norm_eps = 1e-5f;
  keys.PositiveFloat("layer_norm_epsilon", config.norm_eps);
  config.ffn_gate = false;
  config.ffn_bias = true;
  config.mixers = {MixerType::kAttention};
  AttentionConfig& attention = config.attention;
  attention.kv_heads = config.heads;
  attention.head_dim = config.model_dim / config.heads;
  attention.positions = positions;
  attention.qkv_bias = true;
  attention.o_bias = true;
}

void ReadActivation(const char* key, std::string_view absent, KeyReader& keys,
                    ModelConfig& config) {
  std::vector<std::string> names;
  for (const NamedActivation& known : kActivations) {
    names.emplace_back(known.name);
  }
  const std::string name = keys.Choice(key, names, absent);
  for (const NamedActivation& known : kActivations) {
    if (name == known.name) config.activation = known.activation;
  }
}

std::string ActivationName(Activation activation) {
  const auto* const found =
      std::find_if(std::begin(kActivations), std::end(kActivations),
                   [activation](const NamedActivation& known) {
                     return known.activation == activation;
                   });
  MNEME_CHECK(found != std::end(kActivations));
  return found->name;
}

absl::optional<LayerTensor> ParseLayerTensor(const std::string& name) {
  absl::string_view rest = name;
  LayerTensor tensor;
  if (!absl::ConsumePrefix(&rest, "model.layers.")) return absl::nullopt;
  const size_t dot = rest.find('.');
  if (dot == absl::string_view::npos ||
      !absl::SimpleAtoi(rest.substr(0, dot), &tensor.layer)) {
    return absl::nullopt;
  }
  tensor.rest = std::string(rest.substr(dot + 1));
  return tensor;
}

}  // namespace mneme
