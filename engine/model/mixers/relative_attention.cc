// SPDX-License-Identifier: Apache-2.0
#include "engine/model/mixers/relative_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "engine/base/status_macros.h"
#include "engine/model/mixers/row_begins.h"
#include "engine/model/projection.h"

namespace mneme {
namespace {

struct RelativeAttentionWeights {
  Projection q, k, v, o;
  Tensor content_bias;    // [heads * head_dim], of queries of keys
  Tensor distance_bias;   // likewise, of queries of distances
  Tensor distance_keys;   // [distances, heads * head_dim]
  Tensor zero_key_value;  // [2 * heads * head_dim], of a memory of zeros
};

class RelativeAttention final : public SequenceMixer {
 public:
  RelativeAttention(const ModelConfig& config, RelativeAttentionWeights weights)
      : heads_(config.heads),
        config_(config.relative),
        weights_(std::move(weights)) {}

  std::string_view kind() const override { return "transformer_xl"; }
  int64_t segment_tokens() const override { return config_.segment; }

  int64_t weight_bytes() const override {
    return weights_.q.bytes() + weights_.k.bytes() + weights_.v.bytes() +
           weights_.o.bytes() +
           static_cast<int64_t>(weights_.distance_keys.values().size()) * 4;
  }

  LayerSpec state_spec() const override {
    return {{.name = "ring",
             .kind = PartKind::kRing,
             .rows = params().kept,
             .row_floats = params().token_floats()}};
  }

  void InitialiseState(int64_t first_part, SessionState& state) const override {
    if (!config_.zero_memory) return;
    // The tokens at positions -memory to -1.
    const absl::Span<const float> row = weights_.zero_key_value.values();
    const int64_t ring_rows = state.ring_rows(first_part);
    for (int64_t i = 1; i <= std::min(config_.memory, params().kept); ++i) {
      std::copy(
          row.begin(), row.end(),
          state.ring(first_part) + (ring_rows - i) * params().token_floats());
    }
  }

  int64_t scratch_bytes(int64_t rows) const override {
    return 5 * Pass::ScratchBytes(rows, inner_dim());
  }

  void Forward(const Pass& pass, int64_t first_part, ConstRows h,
               Rows y) const override {
    const Workspace::Frame frame(pass.workspace);
    Rows q = pass.Scratch(inner_dim());
    Rows distance_q = pass.Scratch(inner_dim());
    Rows k = pass.Scratch(inner_dim());
    Rows v = pass.Scratch(inner_dim());
    Rows out = pass.Scratch(inner_dim());
    weights_.q.Forward(pass, h, q);
    weights_.k.Forward(pass, h, k);
    weights_.v.Forward(pass, h, v);
    for (int64_t row = 0; row < q.rows; ++row) {
      std::copy_n(q.row(row), q.cols, distance_q.row(row));
    }
    pass.backend.AddBias(weights_.content_bias.values(), q);
    pass.backend.AddBias(weights_.distance_bias.values(), distance_q);
    const RowBegins begins(
        pass, [this](int64_t position) { return Begin(position); });
    absl::InlinedVector<AttentionSlice, kMaxPassSlices> slices;
    for (const PassSlice& slice : pass.slices) {
      slices.push_back({.first_row = slice.first_row,
                        .rows = slice.rows,
                        .position = slice.position,
                        .begins = begins.of(slice),
                        .ring = slice.state->ring(first_part),
                        .ring_rows = slice.state->ring_rows(first_part)});
    }
    pass.backend.Attention(
        pass.path, params(),
        {.q = q, .k = k, .v = v, .far_q = {}, .distance_q = distance_q}, slices,
        out);
    weights_.o.Forward(pass, out, y);
  }

  AttentionParams params() const {
    return {.heads = heads_,
            .kv_heads = heads_,
            .head_dim = config_.head_dim,
            .kept = config_.kept(),
            .scale = static_cast<float>(
                1.0 / std::sqrt(static_cast<double>(config_.head_dim))),
            .distance_keys = weights_.distance_keys.data(),
            .distances = config_.distances()};
  }

 private:
  int64_t inner_dim() const { return heads_ * config_.head_dim; }

  // The first position that the token at `position` sees.
  int64_t Begin(int64_t position) const {
    const int64_t oldest = config_.zero_memory ? -config_.memory : 0;
    const int64_t begin = config_.same_length
                              ? position - config_.kept()
                              : SegmentBegin(position) - config_.memory;
    return std::max(oldest, begin);
  }

  int64_t SegmentBegin(int64_t position) const {
    const std::vector<int64_t>& begins = config_.segment_begins;
    if (begins.empty()) return position - position % config_.segment;
    return *std::prev(std::upper_bound(begins.begin(), begins.end(), position));
  }

  const int64_t heads_;
  const RelativeAttentionConfig config_;
  const RelativeAttentionWeights weights_;
};

// Of each distance, sines of all frequencies, then their cosines.
Tensor Sinusoids(int64_t distances, int64_t dim) {
  Tensor table({distances, dim});
  float* to = table.mutable_values().data();
  const int64_t half = dim / 2;
  for (int64_t d = 0; d < distances; ++d, to += dim) {
    for (int64_t i = 0; i < half; ++i) {
      const double frequency = std::pow(
          10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
      to[i] = static_cast<float>(std::sin(static_cast<double>(d) * frequency));
      to[half + i] =
          static_cast<float>(std::cos(static_cast<double>(d) * frequency));
    }
  }
  return table;
}

// What a map makes of rows that are no pass's.
absl::StatusOr<Tensor> Tabulate(const BuildContext& context,
                                const std::string& name, const Tensor& rows,
                                int64_t out) {
  const int64_t in = context.config.model_dim;
  MNEME_ASSIGN_OR_RETURN(
      const std::unique_ptr<const Matrix> weight,
      context.weights.TakeMatrix(name, {out, in}, context.backend));
  Tensor table({rows.shape()[0], out});
  MNEME_RETURN_IF_ERROR(context.backend.Multiply(
      *weight, {rows.data(), rows.shape()[0], in, in},
      {table.mutable_values().data(), rows.shape()[0], out, out}));
  return table;
}

// The key and value of a token whose hidden state is zero: where the norm
// comes first, what they make of its bias.
absl::StatusOr<Tensor> ZeroKeyValue(const BuildContext& context,
                                    const std::string& prefix, int64_t out,
                                    const Tensor& norm_bias) {
  Tensor joined({2 * out});
  if (context.config.norm_place == NormPlace::kAfter) return joined;
  Tensor row({1, context.config.model_dim});
  std::copy(norm_bias.values().begin(), norm_bias.values().end(),
            row.mutable_values().begin());
  float* to = joined.mutable_values().data();
  for (const char* name : {"k_proj.weight", "v_proj.weight"}) {
    MNEME_ASSIGN_OR_RETURN(const Tensor made,
                           Tabulate(context, prefix + name, row, out));
    to = std::copy(made.values().begin(), made.values().end(), to);
  }
  return joined;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeRelativeAttention(
    const BuildContext& context, const std::string& prefix,
    const std::string& norm) {
  const ModelConfig& config = context.config;
  const int64_t dim = config.model_dim;
  const int64_t inner = config.heads * config.relative.head_dim;
  const auto take = [&](const char* name, int64_t out, int64_t in) {
    return Projection::Take(context, prefix + name, out, in);
  };
  MNEME_ASSIGN_OR_RETURN(Projection q, take("q_proj", inner, dim));
  MNEME_ASSIGN_OR_RETURN(Projection k, take("k_proj", inner, dim));
  MNEME_ASSIGN_OR_RETURN(Projection v, take("v_proj", inner, dim));
  MNEME_ASSIGN_OR_RETURN(Projection o, take("o_proj", dim, inner));
  const Shape heads = {config.heads, config.relative.head_dim};
  MNEME_ASSIGN_OR_RETURN(Tensor content_bias, context.weights.TakeTensor(
                                                  prefix + "r_w_bias", heads));
  MNEME_ASSIGN_OR_RETURN(Tensor distance_bias, context.weights.TakeTensor(
                                                   prefix + "r_r_bias", heads));
  MNEME_ASSIGN_OR_RETURN(
      Tensor distance_keys,
      Tabulate(context, prefix + "r_proj.weight",
               Sinusoids(config.relative.distances(), dim), inner));
  MNEME_ASSIGN_OR_RETURN(const Tensor norm_bias,
                         context.weights.TakeTensor(norm + ".bias", {dim}));
  MNEME_ASSIGN_OR_RETURN(Tensor zero_key_value,
                         ZeroKeyValue(context, prefix, inner, norm_bias));
  auto mixer = std::make_unique<RelativeAttention>(
      config, RelativeAttentionWeights{
                  std::move(q), std::move(k), std::move(v), std::move(o),
                  std::move(content_bias), std::move(distance_bias),
                  std::move(distance_keys), std::move(zero_key_value)});
  MNEME_RETURN_IF_ERROR(
      context.backend.Reserve(mixer->params(), context.max_rows));
  return mixer;
}

}  // namespace mneme
