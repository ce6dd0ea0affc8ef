// SPDX-License-Identifier: Apache-2.0
#include "engine/model/mixers/ttt.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "engine/base/status_macros.h"
#include "engine/model/causal_conv.h"
#include "engine/model/rotation.h"

namespace mneme {
namespace {

constexpr float kPostNormEps = 1e-6f;

struct TttWeights {
  std::unique_ptr<const Matrix> q_proj, v_proj, o_proj;  // [model, model]
  std::unique_ptr<const Matrix> k_proj;                  // without share_qk
  std::unique_ptr<const Matrix> g_proj;                  // with use_gate
  absl::optional<CausalConv> conv_q, conv_k;             // with share_qk
  std::unique_ptr<const Matrix> rate;                    // [heads, model]
  Tensor rate_bias;                                      // [heads]
  Tensor norm_weight, norm_bias;                         // [heads, head_dim]
  Tensor post_norm_weight, post_norm_bias;               // [model]
  Tensor initial;      // [heads, weight_floats] of TttParams
  Tensor token_scale;  // [mini_batch]
};

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

TttInner Inner(const ModelConfig& config) {
  return config.ttt.layer_type == "mlp" ? TttInner::kMlp : TttInner::kLinear;
}

// The checkpoint's W1, b1 (, W2, b2), head by head.
absl::StatusOr<Tensor> TakeInnerModel(const ModelConfig& config,
                                      const std::string& prefix,
                                      Weights& weights) {
  const TttParams sizes{.inner = Inner(config),
                        .heads = config.heads,
                        .head_dim = config.head_dim()};
  Tensor joined({sizes.heads, sizes.weight_floats()});
  int64_t first = 0;  // of the next tensor in a head
  for (int64_t i = 0; i < sizes.maps(); ++i) {
    for (const auto& [letter, rows] :
         {std::pair<const char*, int64_t>{"W", sizes.in_dim(i)}, {"b", 1}}) {
      MNEME_ASSIGN_OR_RETURN(
          const Tensor tensor,
          weights.TakeTensor(absl::StrCat(prefix, letter, i + 1),
                             {sizes.heads, rows, sizes.out_dim(i)}));
      const int64_t floats = rows * sizes.out_dim(i);
      for (int64_t head = 0; head < sizes.heads; ++head) {
        std::copy_n(tensor.data() + head * floats, floats,
                    joined.mutable_values().data() +
                        head * sizes.weight_floats() + first);
      }
      first += floats;
    }
  }
  return joined;
}

class Ttt final : public SequenceMixer {
 public:
  Ttt(const ModelConfig& config, TttWeights weights)
      : inner_(Inner(config)),
        dim_(config.model_dim),
        heads_(config.heads),
        head_dim_(config.head_dim()),
        mini_batch_(config.ttt.mini_batch),
        conv_kernel_(config.conv_kernel),
        rate_scale_(config.ttt.base_lr / static_cast<float>(head_dim_)),
        weights_(std::move(weights)),
        rotation_(mini_batch_, head_dim_, config.ttt.rope_theta) {}

  std::string_view kind() const override {
    return inner_ == TttInner::kMlp ? "ttt_mlp" : "ttt_linear";
  }
  int64_t segment_tokens() const override { return mini_batch_; }

  int64_t weight_bytes() const override {
    int64_t bytes = weights_.initial.values().size() * 4 + rotation_.bytes();
    for (const auto* matrix :
         {&weights_.q_proj, &weights_.k_proj, &weights_.v_proj,
          &weights_.o_proj, &weights_.g_proj, &weights_.rate}) {
      if (*matrix != nullptr) bytes += (*matrix)->bytes();
    }
    return bytes;
  }

  LayerSpec state_spec() const override {
    LayerSpec spec = {{.name = "weights",
                       .kind = PartKind::kRewritten,
                       .rows = weight_rows(),
                       .row_floats = head_dim_},
                      {.name = "factors",
                       .kind = PartKind::kAppended,
                       .rows = mini_batch_ - 1,
                       .row_floats = heads_ * params().factor_floats()}};
    if (weights_.conv_q.has_value()) {
      spec.push_back(CausalConv::WindowSpec("window", dim_, conv_kernel_));
    }
    return spec;
  }

  void InitialiseState(int64_t first_part, SessionState& state) const override {
    const int64_t part = first_part + int64_t(TttPart::kWeights);
    const absl::Span<const float> initial = weights_.initial.values();
    std::copy(initial.begin(), initial.end(), state.mutable_contents(part));
  }

  int64_t scratch_bytes(int64_t rows) const override {
    // u, q, k, v, gate, out, and the rates.
    return 6 * Pass::ScratchBytes(rows, dim_) +
           Pass::ScratchBytes(rows, heads_);
  }

  void Forward(const Pass& pass, int64_t first_part, ConstRows h,
               Rows y) const override {
    const Workspace::Frame frame(pass.workspace);
    Backend& backend = pass.backend;
    Rows q = pass.Scratch(dim_);
    Rows k = pass.Scratch(dim_);
    Rows v = pass.Scratch(dim_);
    Rows rate = pass.Scratch(heads_);
    Rows out = pass.Scratch(dim_);
    Rows gate;

    if (weights_.conv_q.has_value()) {
      const int64_t window = first_part + int64_t(TttPart::kWindow);
      Rows u = pass.Scratch(dim_);
      backend.Matmul(pass.path, *weights_.q_proj, h, u);
      weights_.conv_q->Forward(pass, window, CausalConv::Window::kKeep, u, q);
      weights_.conv_k->Forward(pass, window, CausalConv::Window::kAdvance, u,
                               k);
    } else {
      backend.Matmul(pass.path, *weights_.q_proj, h, q);
      backend.Matmul(pass.path, *weights_.k_proj, h, k);
    }
    backend.Matmul(pass.path, *weights_.v_proj, h, v);
    backend.Matmul(pass.path, *weights_.rate, h, rate);
    backend.ScaledSigmoid(weights_.rate_bias.values(), rate_scale_, rate);
    if (weights_.g_proj != nullptr) {
      gate = pass.Scratch(dim_);
      backend.Matmul(pass.path, *weights_.g_proj, h, gate);
    }
    Learn(pass, first_part, {.q = q, .k = k, .v = v, .learning_rate = rate},
          out);
    backend.LayerNorm(out, weights_.post_norm_weight.values(),
                      weights_.post_norm_bias.values(), kPostNormEps, out);
    if (weights_.g_proj != nullptr) {
      backend.Activate(Activation::kGeluTanh, out, gate);
    }
    backend.Matmul(pass.path, *weights_.o_proj,
                   weights_.g_proj != nullptr ? gate : out, y);
  }

  TttParams params() const {
    return {.inner = inner_,
            .heads = heads_,
            .head_dim = head_dim_,
            .mini_batch = mini_batch_,
            .norm_weight = weights_.norm_weight.data(),
            .norm_bias = weights_.norm_bias.data(),
            .token_scale = weights_.token_scale.data(),
            .rope_cos = rotation_.cosines.data(),
            .rope_sin = rotation_.sines.data()};
  }

 private:
  // Rows of head_dim that the inner models take.
  int64_t weight_rows() const {
    return heads_ * params().weight_floats() / head_dim_;
  }

  // The inner learner, and what its sessions' states become.
  void Learn(const Pass& pass, int64_t first_part, const TttInputs& inputs,
             Rows out) const {
    const int64_t weights = first_part + int64_t(TttPart::kWeights);
    const int64_t factors = first_part + int64_t(TttPart::kFactors);
    absl::InlinedVector<TttSlice, kMaxPassSlices> slices;
    for (const PassSlice& slice : pass.slices) {
      SessionState& state = *slice.state;
      slices.push_back({.first_row = slice.first_row,
                        .rows = slice.rows,
                        .slot = slice.position % mini_batch_,
                        .weights = state.contents(weights),
                        .next_weights = state.spare(weights),
                        .factors = state.mutable_contents(factors),
                        .next_factors = state.spare(factors)});
    }
    pass.backend.Ttt(pass.path, params(), inputs, slices, out);
    for (const PassSlice& slice : pass.slices) {
      const int64_t slot = slice.position % mini_batch_;
      if (slot + slice.rows < mini_batch_) {
        slice.state->Append(factors, slice.rows);
      } else {
        slice.state->Replace(weights, weight_rows());
        slice.state->Replace(factors, (slot + slice.rows) % mini_batch_);
      }
    }
  }

  const TttInner inner_;
  const int64_t dim_;
  const int64_t heads_;
  const int64_t head_dim_;
  const int64_t mini_batch_;
  const int64_t conv_kernel_;
  const float rate_scale_;
  const TttWeights weights_;
  const Rotation rotation_;  // by slot in the mini-batch
};

}  // namespace

absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeTtt(
    const BuildContext& context, const std::string& prefix) {
  const ModelConfig& config = context.config;
  Weights& weights = context.weights;
  Preparer& backend = context.backend;
  const int64_t dim = config.model_dim;
  const int64_t heads = config.heads;
  const int64_t head_dim = config.head_dim();
  const Shape square = {dim, dim};
  TttWeights w;
  MNEME_ASSIGN_OR_RETURN(
      w.q_proj, weights.TakeMatrix(prefix + "q_proj.weight", square, backend));
  MNEME_ASSIGN_OR_RETURN(
      w.v_proj, weights.TakeMatrix(prefix + "v_proj.weight", square, backend));
  MNEME_ASSIGN_OR_RETURN(
      w.o_proj, weights.TakeMatrix(prefix + "o_proj.weight", square, backend));
  if (config.ttt.share_qk) {
    MNEME_ASSIGN_OR_RETURN(
        w.conv_q,
        CausalConv::Take(prefix + "conv_q", dim, config.conv_kernel, weights));
    MNEME_ASSIGN_OR_RETURN(
        w.conv_k,
        CausalConv::Take(prefix + "conv_k", dim, config.conv_kernel, weights));
  } else {
    MNEME_ASSIGN_OR_RETURN(
        w.k_proj,
        weights.TakeMatrix(prefix + "k_proj.weight", square, backend));
  }
  if (config.ttt.use_gate) {
    MNEME_ASSIGN_OR_RETURN(
        w.g_proj,
        weights.TakeMatrix(prefix + "g_proj.weight", square, backend));
  }
  MNEME_ASSIGN_OR_RETURN(w.rate,
                         weights.TakeMatrix(prefix + "learnable_ttt_lr_weight",
                                            {heads, 1, dim}, backend));
  MNEME_ASSIGN_OR_RETURN(
      w.rate_bias,
      weights.TakeTensor(prefix + "learnable_ttt_lr_bias", {heads, 1}));
  MNEME_ASSIGN_OR_RETURN(
      w.norm_weight,
      weights.TakeTensor(prefix + "ttt_norm_weight", {heads, head_dim}));
  MNEME_ASSIGN_OR_RETURN(
      w.norm_bias,
      weights.TakeTensor(prefix + "ttt_norm_bias", {heads, head_dim}));
  MNEME_ASSIGN_OR_RETURN(
      w.post_norm_weight,
      weights.TakeTensor(prefix + "post_norm.weight", {dim}));
  MNEME_ASSIGN_OR_RETURN(w.post_norm_bias,
                         weights.TakeTensor(prefix + "post_norm.bias", {dim}));
  MNEME_ASSIGN_OR_RETURN(w.initial, TakeInnerModel(config, prefix, weights));
  MNEME_ASSIGN_OR_RETURN(const Tensor learnable,
                         weights.TakeTensor(prefix + "learnable_token_idx",
                                            {config.ttt.mini_batch}));
  w.token_scale = TokenScale(learnable);
  // Buffers that some checkpoints carry; they follow from the config.
  weights.Ignore(prefix + "token_idx");
  for (const char* rotation : {"inv_freq", "cos_cached", "sin_cached"}) {
    weights.Ignore(absl::StrCat(prefix, "rotary_emb.", rotation));
  }

  auto mixer = std::make_unique<Ttt>(config, std::move(w));
  MNEME_RETURN_IF_ERROR(backend.Reserve(mixer->params(), context.max_rows));
  return mixer;
}

}  // namespace mneme
