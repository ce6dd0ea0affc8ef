// SPDX-License-Identifier: Apache-2.0
#include "engine/model/mixers/ttt_projections.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

constexpr float kPostNormEps = 1e-6f;

// te_i = max(0, 1 / (i + 1) + learnable_token_idx[i])
Tensor TokenScale(const Tensor& learnable) {
  Tensor scale = learnable;
  float slot = 1.0f;
  for (float& value : scale.mutable_values()) {
    value = std::max(0.0f, 1.0f / slot + value);
    slot += 1.0f;
  }
  return scale;
}

}  // namespace

TttProjections::TttProjections(const ModelConfig& config)
    : heads_(config.ttt_heads()),
      head_dim_(config.ttt_head_dim()),
      conv_kernel_(config.conv_kernel),
      rate_scale_(config.ttt.lr_scale == "one"
                      ? 1.0f
                      : config.ttt.base_lr / static_cast<float>(head_dim_)),
      config_(config.ttt) {}

absl::StatusOr<TttProjections> TttProjections::Take(const BuildContext& context,
                                                    const std::string& prefix) {
  const ModelConfig& config = context.config;
  Weights& weights = context.weights;
  Preparer& backend = context.backend;
  TttProjections p(config);
  const int64_t dim = config.model_dim;
  const int64_t inner = p.heads_ * p.head_dim_;
  const auto take = [&](const char* name, int64_t out, int64_t in) {
    return weights.TakeMatrix(prefix + name, {out, in}, backend);
  };
  MNEME_ASSIGN_OR_RETURN(p.q_proj_, take("q_proj.weight", inner, dim));
  MNEME_ASSIGN_OR_RETURN(p.v_proj_, take("v_proj.weight", inner, dim));
  MNEME_ASSIGN_OR_RETURN(p.o_proj_, take("o_proj.weight", dim, inner));
  if (config.ttt.share_qk) {
    MNEME_ASSIGN_OR_RETURN(
        p.conv_q_,
        CausalConv::Take(prefix + "conv_q", inner, p.conv_kernel_, weights));
    MNEME_ASSIGN_OR_RETURN(
        p.conv_k_,
        CausalConv::Take(prefix + "conv_k", inner, p.conv_kernel_, weights));
  } else {
    MNEME_ASSIGN_OR_RETURN(p.k_proj_, take("k_proj.weight", inner, dim));
  }
  if (config.ttt.use_gate) {
    MNEME_ASSIGN_OR_RETURN(p.g_proj_, take("g_proj.weight", inner, dim));
  }
  MNEME_ASSIGN_OR_RETURN(p.rate_,
                         weights.TakeMatrix(prefix + "learnable_ttt_lr_weight",
                                            {p.heads_, 1, dim}, backend));
  MNEME_ASSIGN_OR_RETURN(
      p.rate_bias_,
      weights.TakeTensor(prefix + "learnable_ttt_lr_bias", {p.heads_, 1}));
  const Shape slots = {config.ttt.mini_batch};
  if (config.ttt.lr_scale == "one") {
    p.token_scale_ = Tensor(slots);
    for (float& scale : p.token_scale_.mutable_values()) scale = 1.0f;
  } else {
    MNEME_ASSIGN_OR_RETURN(
        const Tensor learnable,
        weights.TakeTensor(prefix + "learnable_token_idx", slots));
    p.token_scale_ = TokenScale(learnable);
  }
  // Without inner norm a token is a mini-batch: the one that reads is the one
  // that writes.
  if (!config.ttt.inner_norm) p.rate_scale_ *= p.token_scale_.values()[0];
  if (config.ttt.post_norm) {
    MNEME_ASSIGN_OR_RETURN(
        p.post_norm_weight_,
        weights.TakeTensor(prefix + "post_norm.weight", {inner}));
    MNEME_ASSIGN_OR_RETURN(
        p.post_norm_bias_,
        weights.TakeTensor(prefix + "post_norm.bias", {inner}));
  }
  // Buffers that some checkpoints carry; they follow from the config.
  weights.Ignore(prefix + "token_idx");
  for (const char* rotation : {"inv_freq", "cos_cached", "sin_cached"}) {
    weights.Ignore(absl::StrCat(prefix, "rotary_emb.", rotation));
  }
  return p;
}

TttProjections::Operands TttProjections::Project(const Pass& pass,
                                                 int64_t window,
                                                 ConstRows h) const {
  Backend& backend = pass.backend;
  const int64_t inner = heads_ * head_dim_;
  Operands to = {.q = pass.Scratch(inner),
                 .k = pass.Scratch(inner),
                 .v = pass.Scratch(inner),
                 .rate = pass.Scratch(heads_),
                 .gate = {}};
  if (conv_q_.has_value()) {
    Rows u = pass.Scratch(inner);
    backend.Matmul(pass.path, *q_proj_, h, u);
    conv_q_->Forward(pass, window, CausalConv::Window::kKeep, u, to.q);
    conv_k_->Forward(pass, window, CausalConv::Window::kAdvance, u, to.k);
  } else {
    backend.Matmul(pass.path, *q_proj_, h, to.q);
    backend.Matmul(pass.path, *k_proj_, h, to.k);
  }
  if (config_.qk_l2norm) {
    backend.NormaliseHeads(head_dim_, config_.qk_l2norm_eps, to.q);
    backend.NormaliseHeads(head_dim_, config_.qk_l2norm_eps, to.k);
  }
  backend.Matmul(pass.path, *v_proj_, h, to.v);
  backend.Matmul(pass.path, *rate_, h, to.rate);
  if (config_.lr_gate == "hard") {
    backend.ScaledHardSigmoid(rate_bias_.values(), config_.lr_gate_stretch,
                              rate_scale_, to.rate);
  } else {
    backend.ScaledSigmoid(rate_bias_.values(), rate_scale_, to.rate);
  }
  if (g_proj_ != nullptr) {
    to.gate = pass.Scratch(inner);
    backend.Matmul(pass.path, *g_proj_, h, to.gate);
  }
  return to;
}

void TttProjections::Finish(const Pass& pass, const Operands& operands,
                            Rows out, Rows y) const {
  Backend& backend = pass.backend;
  if (config_.post_norm) {
    backend.LayerNorm(out, post_norm_weight_.values(), post_norm_bias_.values(),
                      kPostNormEps, out);
  }
  if (g_proj_ != nullptr) {
    backend.Activate(config_.gate_act == "sigmoid" ? Activation::kSigmoid
                                                   : Activation::kGeluTanh,
                     out, operands.gate);
  }
  backend.Matmul(pass.path, *o_proj_, g_proj_ != nullptr ? operands.gate : out,
                 y);
}

void TttProjections::AddWindow(LayerSpec& spec) const {
  if (!conv_q_.has_value()) return;
  spec.push_back(
      CausalConv::WindowSpec("window", heads_ * head_dim_, conv_kernel_));
}

int64_t TttProjections::weight_bytes() const {
  int64_t bytes = 0;
  for (const auto* matrix :
       {&q_proj_, &k_proj_, &v_proj_, &o_proj_, &g_proj_, &rate_}) {
    if (*matrix != nullptr) bytes += (*matrix)->bytes();
  }
  return bytes;
}

int64_t TttProjections::scratch_bytes(int64_t rows) const {
  // u, q, k, v, gate, and the rates.
  return 5 * Pass::ScratchBytes(rows, heads_ * head_dim_) +
         Pass::ScratchBytes(rows, heads_);
}

}  // namespace mneme
