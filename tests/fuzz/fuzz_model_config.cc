// SPDX-License-Identifier: Apache-2.0
//
// config.json: whatever the text, parsing ends, and what it accepts is a model
// that can be computed.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/base/check.h"
#include "engine/model/model_config.h"

namespace mneme {
namespace {

void ParseOne(std::string_view text) {
  const absl::StatusOr<ModelConfig> config = ParseModelConfig(text);
  if (!config.ok()) {
    MNEME_CHECK(config.status().code() == absl::StatusCode::kInvalidArgument ||
                config.status().code() == absl::StatusCode::kUnimplemented);
    MNEME_CHECK(!config.status().message().empty());
    return;
  }
  MNEME_CHECK(config->vocab_size > 0);
  MNEME_CHECK(config->ffn_dim > 0);
  MNEME_CHECK(config->layers > 0);
  MNEME_CHECK(config->heads > 0);
  if (config->HasMixer(MixerType::kTtt) ||
      config->HasMixer(MixerType::kDelta)) {
    const TttConfig& ttt = config->ttt;
    MNEME_CHECK(config->ttt_heads() > 0 && config->ttt_head_dim() > 0);
    MNEME_CHECK(config->ttt_heads() * config->ttt_head_dim() <= 1 << 20);
    MNEME_CHECK(!ttt.rope || config->ttt_head_dim() % 2 == 0);
    MNEME_CHECK(ttt.lr_gate != "hard" || ttt.lr_gate_stretch > 0);
    MNEME_CHECK(ttt.qk_l2norm_eps > 0);
    MNEME_CHECK(ttt.inner_norm == config->HasMixer(MixerType::kTtt));
    MNEME_CHECK(ttt.inner_norm || ttt.mini_batch == 1);
  } else if (config->HasMixer(MixerType::kInfini)) {
    const InfiniConfig& infini = config->infini;
    MNEME_CHECK(infini.head_dim > 0 && infini.head_dim % 2 == 0);
    MNEME_CHECK(infini.kv_heads > 0 && config->heads % infini.kv_heads == 0);
    MNEME_CHECK(infini.segment > 0 && infini.epsilon > 0);
  }
  if (config->HasMixer(MixerType::kAttention)) {
    const AttentionConfig& attention = config->attention;
    MNEME_CHECK(attention.head_dim > 0 && attention.head_dim % 2 == 0);
    MNEME_CHECK(attention.kv_heads > 0);
    MNEME_CHECK(config->heads % attention.kv_heads == 0);
    MNEME_CHECK(attention.window > 0 && attention.sinks >= 0);
    MNEME_CHECK(attention.rope.theta > 0 && attention.rope.factor > 0);
  }
  if (config->HasMixer(MixerType::kRelativeAttention)) {
    const RelativeAttentionConfig& relative = config->relative;
    MNEME_CHECK(relative.head_dim > 0 && relative.memory > 0);
    MNEME_CHECK(relative.same_length || relative.segment > 0);
    const AdaptiveConfig& adaptive = *config->adaptive;
    int64_t tokens = 0;
    for (int64_t band = 0; band < adaptive.bands(); ++band) {
      MNEME_CHECK(adaptive.width(band) > 0);
      MNEME_CHECK(adaptive.tokens(band, config->vocab_size) > 0);
      tokens += adaptive.tokens(band, config->vocab_size);
    }
    MNEME_CHECK(tokens == config->vocab_size);
  }
  MNEME_CHECK(config->ttt.mini_batch > 0);
  MNEME_CHECK(config->conv_kernel > 0);
  MNEME_CHECK(config->norm_eps > 0);
  MNEME_CHECK(config->ttt.rope_theta > 0);
  MNEME_CHECK(config->ttt.base_lr > 0);
  for (const int32_t token : config->eos_tokens) {
    MNEME_CHECK(token >= 0 && token < config->vocab_size);
  }
  for (const absl::optional<int32_t>& token :
       {config->bos_token, config->user_token, config->assistant_token}) {
    if (!token.has_value()) continue;
    MNEME_CHECK(*token >= 0 && *token < config->vocab_size);
  }
  MNEME_CHECK(!config->canonical.empty());
}

}  // namespace
}  // namespace mneme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mneme::ParseOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
