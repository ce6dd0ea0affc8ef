// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/model/families/family.h"

namespace mneme {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 20;
constexpr int64_t kMaxTableFloats = int64_t{1} << 24;

void ReadVocabulary(KeyReader& keys, ModelConfig& config) {
  config.vocab_size = 267735;
  keys.Int("vocab_size", 1, kMaxVocabulary, config.vocab_size);
  keys.Alias("tie_weight", "tie_word_embeddings");  // in older files
  keys.Bool("tie_word_embeddings", config.tie_word_embeddings);
  AdaptiveConfig adaptive;
  adaptive.cutoffs = {20000, 40000, 200000};
  keys.Ints("cutoffs", 1, kMaxVocabulary, adaptive.cutoffs);
  keys.Int("d_embed", 1, kMaxDim, adaptive.embed_dim);
  adaptive.div_val = 4;
  keys.Int("div_val", 1, kMaxDim, adaptive.div_val);
  bool share = true;
  keys.Bool("proj_share_all_but_first", share);
  adaptive.tie_projs.assign(adaptive.bands(), share);
  adaptive.tie_projs[0] = false;
  keys.Bools("tie_projs", adaptive.tie_projs);
  config.adaptive = adaptive;
}

void Read(KeyReader& keys, ModelConfig& config) {
  keys.MustBe("architectures", nlohmann::json::array({"TransfoXLLMHeadModel"}));
  ReadVocabulary(keys, config);
  config.bos_token.reset();
  config.eos_tokens = {0};
  config.model_dim = 1024;
  config.ffn_dim = 4096;
  config.layers = 18;
  config.heads = 16;
  keys.Int("d_model", 2, kMaxDim, config.model_dim);
  keys.Int("d_inner", 1, kMaxDim, config.ffn_dim);
  keys.Int("n_layer", 1, 1024, config.layers);
  keys.Int("n_head", 1, kMaxDim, config.heads);
  config.mixers = {MixerType::kRelativeAttention};
  config.activation = Activation::kRelu;
  config.ffn_gate = false;
  config.ffn_bias = true;
  config.final_norm = false;
  config.norm = NormType::kLayer;
  config.norm_eps = 1e-5f;
  keys.PositiveFloat("layer_norm_epsilon", config.norm_eps);
  bool norm_first = false;
  keys.Bool("pre_lnorm", norm_first);
  config.norm_place = norm_first ? NormPlace::kBefore : NormPlace::kAfter;

  RelativeAttentionConfig& relative = config.relative;
  keys.Int("d_head", 1, kMaxDim, relative.head_dim);
  keys.Int("mem_len", 1, kMaxTokens, relative.memory);
  keys.Int("clamp_len", -1, kMaxTokens, relative.clamp);
  relative.clamp = std::max<int64_t>(relative.clamp, 0);
  keys.Bool("same_length", relative.same_length);
  keys.Int("segment_length", 1, kMaxTokens, relative.segment);
  relative.zero_memory = keys.Choice("mem_init", {"zeros", "empty"}) == "zeros";
  bool own_bias = true;
  keys.Bool("untie_r", own_bias);
  relative.shared_bias = !own_bias;
  keys.MustBe("attn_type", 0);
  keys.MustBe("ext_len", 0);
  int64_t sampled = -1;
  keys.Int("sample_softmax", -1, 0, sampled);
  // Of training, and what the other keys say already.
  for (const char* key : {"adaptive", "dropatt", "init", "init_range",
                          "init_std", "proj_init_std", "tgt_len"}) {
    keys.Ignore(key);
  }
}

absl::Status CheckVocabulary(const ModelConfig& config) {
  const AdaptiveConfig& adaptive = *config.adaptive;
  int64_t before = 0;
  for (const int64_t cutoff : adaptive.cutoffs) {
    if (cutoff <= before || cutoff >= config.vocab_size) {
      return Contradiction(absl::StrCat(
          "\"cutoffs\" has ", cutoff, " after ", before,
          ", want rising numbers below \"vocab_size\", ", config.vocab_size));
    }
    before = cutoff;
  }
  if (static_cast<int64_t>(adaptive.tie_projs.size()) != adaptive.bands()) {
    return Contradiction(absl::StrCat(
        "\"tie_projs\" has ", adaptive.tie_projs.size(), " items, want ",
        adaptive.bands(), ", one more than \"cutoffs\""));
  }
  if (adaptive.width(adaptive.bands() - 1) < 1) {
    return Contradiction(absl::StrCat(
        "\"d_embed\" is ", adaptive.embed_dim, ", want at least \"div_val\", ",
        adaptive.div_val, ", to the power of ", adaptive.bands() - 1));
  }
  return absl::OkStatus();
}

absl::Status Check(const ModelConfig& config) {
  MNEME_RETURN_IF_ERROR(CheckVocabulary(config));
  const RelativeAttentionConfig& relative = config.relative;
  if (config.model_dim % 2 != 0) {
    return Contradiction(absl::StrCat("\"d_model\" is ", config.model_dim,
                                      ", want an even number for the sines "
                                      "and cosines of distances"));
  }
  if (config.heads > kMaxDim / relative.head_dim) {
    return Contradiction(absl::StrCat(
        "\"n_head\" is ", config.heads, ", want at most ",
        kMaxDim / relative.head_dim, " heads of ", relative.head_dim));
  }
  if (!relative.same_length && relative.segment == 0) {
    return Contradiction(
        "\"same_length\" is false, so what a token sees depends on where "
        "segments begin; want \"segment_length\", their tokens, or "
        "\"same_length\" true");
  }
  const int64_t widest =
      std::max(config.model_dim, config.heads * relative.head_dim);
  if (relative.distances() > kMaxTableFloats / widest) {
    return Contradiction(absl::StrCat(
        "\"mem_len\" and \"clamp_len\" tell ", relative.distances(),
        " distances apart, want at most ", kMaxTableFloats / widest,
        ", for there is a table of them"));
  }
  return absl::OkStatus();
}

nlohmann::json ToJson(const ModelConfig& config) {
  const RelativeAttentionConfig& relative = config.relative;
  const AdaptiveConfig& adaptive = *config.adaptive;
  nlohmann::json out = {{"cutoffs", adaptive.cutoffs},
                        {"d_embed", adaptive.embed_dim},
                        {"div_val", adaptive.div_val},
                        {"tie_projs", adaptive.tie_projs},
                        {"d_model", config.model_dim},
                        {"d_inner", config.ffn_dim},
                        {"n_layer", config.layers},
                        {"n_head", config.heads},
                        {"layer_norm_epsilon", config.norm_eps},
                        {"pre_lnorm", config.norm_place == NormPlace::kBefore},
                        {"d_head", relative.head_dim},
                        {"mem_len", relative.memory},
                        {"clamp_len", relative.clamp},
                        {"same_length", relative.same_length},
                        {"mem_init", relative.zero_memory ? "zeros" : "empty"},
                        {"untie_r", !relative.shared_bias}};
  if (!relative.same_length) out["segment_length"] = relative.segment;
  return out;
}

// Numbers where a source has those of all bands in one tensor.
TensorSource BandSource(const ModelConfig& config, const std::string& tensors,
                        int64_t band, const std::string& rest) {
  const AdaptiveConfig& adaptive = *config.adaptive;
  if (!adaptive.one_width() || adaptive.bands() == 1) {
    return {.name = absl::StrCat(tensors, band, rest)};
  }
  const int64_t tokens = adaptive.tokens(band, config.vocab_size);
  return {.name = absl::StrCat(tensors, 0, rest),
          .all_rows = config.vocab_size,
          .first = adaptive.first_token(band),
          .run = tokens,
          .period = tokens};
}

std::string EmbeddingProjection(const ModelConfig& config, int64_t band) {
  return absl::StrCat("transformer.word_emb.emb_projs.",
                      config.adaptive->one_width() ? 0 : band);
}

TensorSource VocabularySource(const ModelConfig& config,
                              const std::string& name) {
  absl::string_view rest = name;
  if (absl::ConsumePrefix(&rest, "lm_head.clusters.")) {
    return {.name = absl::StrCat("crit.cluster_", rest)};
  }
  const bool head_projection =
      absl::ConsumePrefix(&rest, "lm_head.projection.");
  const bool head = !head_projection && absl::ConsumePrefix(&rest, "lm_head.");
  const bool projection = absl::ConsumePrefix(&rest, "model.embed_projection.");
  const bool table = absl::ConsumePrefix(&rest, "model.embed_tokens.");
  const size_t dot = rest.find('.');
  int64_t band = 0;
  if (dot == absl::string_view::npos ||
      !absl::SimpleAtoi(rest.substr(0, dot), &band)) {
    return {.name = name};
  }
  const std::string what(rest.substr(dot));
  if (head_projection) {
    return {.name = config.adaptive->tie_projs[band]
                        ? EmbeddingProjection(config, band)
                        : absl::StrCat("crit.out_projs.", band),
            .transposed = true};
  }
  if (head) return BandSource(config, "crit.out_layers.", band, what);
  if (projection) return {.name = EmbeddingProjection(config, band)};
  if (table) {
    return BandSource(config, "transformer.word_emb.emb_layers.", band, what);
  }
  return {.name = name};
}

TensorSource LayerSource(const ModelConfig& config, const LayerTensor& tensor) {
  const std::string prefix =
      absl::StrCat("transformer.layers.", tensor.layer, ".");
  const std::string attention = prefix + "dec_attn.";
  const int64_t inner = config.heads * config.relative.head_dim;
  const auto of_three = [&](int64_t index) {
    return TensorSource{.name = attention + "qkv_net.weight",
                        .all_rows = 3 * inner,
                        .first = index * inner,
                        .run = inner,
                        .period = inner};
  };
  absl::string_view rest = tensor.rest;
  if (rest == "self_attn.q_proj.weight") return of_three(0);
  if (rest == "self_attn.k_proj.weight") return of_three(1);
  if (rest == "self_attn.v_proj.weight") return of_three(2);
  if (rest == "self_attn.o_proj.weight")
    return {.name = attention + "o_net.weight"};
  if (rest == "self_attn.r_proj.weight")
    return {.name = attention + "r_net.weight"};
  if (absl::ConsumePrefix(&rest, "self_attn.")) {
    return {
        .name = absl::StrCat(
            config.relative.shared_bias ? "transformer." : attention, rest)};
  }
  if (absl::ConsumePrefix(&rest, "input_layernorm.")) {
    return {.name = absl::StrCat(attention, "layer_norm.", rest)};
  }
  if (absl::ConsumePrefix(&rest, "post_attention_layernorm.")) {
    return {.name = absl::StrCat(prefix, "pos_ff.layer_norm.", rest)};
  }
  if (absl::ConsumePrefix(&rest, "mlp.up_proj.")) {
    return {.name = absl::StrCat(prefix, "pos_ff.CoreNet.0.", rest)};
  }
  if (absl::ConsumePrefix(&rest, "mlp.down_proj.")) {
    return {.name = absl::StrCat(prefix, "pos_ff.CoreNet.3.", rest)};
  }
  return {.name = prefix + tensor.rest};
}

// Savers write shared tensors out again.
absl::Status IgnoreCopies(const ModelConfig& config, Weights& weights) {
  const AdaptiveConfig& adaptive = *config.adaptive;
  for (int64_t band = 0; band < adaptive.bands(); ++band) {
    if (config.tie_word_embeddings && (band == 0 || !adaptive.one_width())) {
      const int64_t rows = adaptive.one_width()
                               ? config.vocab_size
                               : adaptive.tokens(band, config.vocab_size);
      MNEME_RETURN_IF_ERROR(weights.IgnoreCopy(
          absl::StrCat("crit.out_layers.", band, ".weight"),
          absl::StrCat("transformer.word_emb.emb_layers.", band, ".weight"),
          {rows, adaptive.width(band)},
          "config.json says \"tie_word_embeddings\""));
    }
    if (adaptive.tie_projs[band] && adaptive.projects(config.model_dim)) {
      MNEME_RETURN_IF_ERROR(
          weights.IgnoreCopy(absl::StrCat("crit.out_projs.", band),
                             EmbeddingProjection(config, band),
                             {config.model_dim, adaptive.width(band)},
                             "config.json says so in \"tie_projs\""));
    }
  }
  if (!config.relative.shared_bias) return absl::OkStatus();
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    for (const char* bias : {"r_w_bias", "r_r_bias"}) {
      MNEME_RETURN_IF_ERROR(weights.IgnoreCopy(
          absl::StrCat("transformer.layers.", layer, ".dec_attn.", bias),
          absl::StrCat("transformer.", bias),
          {config.heads, config.relative.head_dim},
          "config.json says that \"untie_r\" is false"));
    }
  }
  return absl::OkStatus();
}

absl::Status Adapt(const ModelConfig& config, Weights& weights) {
  weights.SetSources([config](const std::string& name) {
    const absl::optional<LayerTensor> tensor = ParseLayerTensor(name);
    return tensor.has_value() ? LayerSource(config, *tensor)
                              : VocabularySource(config, name);
  });
  weights.Ignore("transformer.pos_emb.inv_freq");
  return IgnoreCopies(config, weights);
}

constexpr const char* kSettings[] = {"segment_length", "mem_init"};

}  // namespace

const Family kTransfoXlFamily = {"transfo-xl", &Read,  &Check,
                                 &ToJson,      &Adapt, kSettings};

}  // namespace mneme
