// SPDX-License-Identifier: Apache-2.0
#include "engine/model/mixers/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "engine/base/status_macros.h"
#include "engine/model/mixers/row_begins.h"
#include "engine/model/projection.h"
#include "engine/model/rotation.h"

namespace mneme {
namespace {

struct AttentionWeights {
  Projection q, k, v, o;
  Tensor q_norm, k_norm;  // [head_dim], with qk_norm
};

// A slope per head: powers of 2^(-8 / n) for the largest power of two n not
// above `heads`; the heads beyond take every other one of 2^(-8 / 2n). Press et
// al. 2021, arXiv:2108.12409, section 3, and the authors' code.
std::vector<float> AlibiSlopes(int64_t heads) {
  int64_t whole = 1;
  while (2 * whole <= heads) whole *= 2;
  const double base = std::exp2(-8.0 / static_cast<double>(whole));
  const double between = std::exp2(-4.0 / static_cast<double>(whole));
  std::vector<float> slopes;
  for (int64_t i = 0; i < heads; ++i) {
    slopes.push_back(static_cast<float>(
        i < whole
            ? std::pow(base, static_cast<double>(i + 1))
            : std::pow(between, static_cast<double>(2 * (i - whole) + 1))));
  }
  return slopes;
}

class Attention final : public SequenceMixer {
 public:
  Attention(const ModelConfig& config, AttentionWeights weights)
      : heads_(config.heads),
        norm_eps_(config.norm_eps),
        config_(config.attention),
        weights_(std::move(weights)),
        frequencies_(RotationFrequencies(config_.rope, config_.head_dim)) {
    if (config_.positions == AttentionPositions::kSlopes) {
      slopes_ = AlibiSlopes(heads_);
    }
  }

  std::string_view kind() const override {
    if (config_.limit > 0) return "full";
    return config_.sinks > 0 ? "window_with_sinks" : "window";
  }
  int64_t segment_tokens() const override { return 0; }

  int64_t weight_bytes() const override {
    return weights_.q.bytes() + weights_.k.bytes() + weights_.v.bytes() +
           weights_.o.bytes();
  }

  LayerSpec state_spec() const override {
    LayerSpec spec = {{.name = "ring",
                       .kind = PartKind::kRing,
                       .rows = params().kept,
                       .row_floats = params().token_floats()}};
    if (config_.sinks > 0) {
      spec.push_back({.name = "sinks",
                      .kind = PartKind::kAppended,
                      .rows = config_.sinks,
                      .row_floats = params().token_floats(),
                      .starts_over = false});
    }
    return spec;
  }

  void InitialiseState(int64_t /*first_part*/,
                       SessionState& /*state*/) const override {}

  bool HasRightRows(int64_t first_part,
                    const SessionState& state) const override {
    if (config_.sinks == 0) return true;
    return state.rows(first_part + int64_t(AttentionPart::kSinks)) ==
           std::min(state.computed_tokens(), config_.sinks);
  }

  int64_t scratch_bytes(int64_t rows) const override {
    // q, far_q, out; k, v; the angles of both kinds of queries.
    return 3 * Pass::ScratchBytes(rows, query_dim()) +
           2 * Pass::ScratchBytes(rows, kv_dim()) +
           4 * Pass::ScratchBytes(rows, config_.head_dim / 2);
  }

  void Forward(const Pass& pass, int64_t first_part, ConstRows h,
               Rows y) const override {
    const Workspace::Frame frame(pass.workspace);
    Rows q = pass.Scratch(query_dim());
    Rows k = pass.Scratch(kv_dim());
    Rows v = pass.Scratch(kv_dim());
    Rows out = pass.Scratch(query_dim());
    Rows far_q;
    weights_.q.Forward(pass, h, q);
    weights_.k.Forward(pass, h, k);
    weights_.v.Forward(pass, h, v);
    if (config_.qk_norm) {
      NormHeads(pass, weights_.q_norm, q);
      NormHeads(pass, weights_.k_norm, k);
    }
    if (config_.sinks > 0) {
      far_q = pass.Scratch(query_dim());
      for (int64_t row = 0; row < q.rows; ++row) {
        std::copy_n(q.row(row), q.cols, far_q.row(row));
      }
    }
    if (config_.positions == AttentionPositions::kRotary) {
      Rotate(pass, std::numeric_limits<int64_t>::max(), {q, k});
      // As far behind the sinks as the cache is long.
      if (config_.sinks > 0) {
        Rotate(pass, config_.sinks + config_.window - 1, {far_q});
      }
    }
    const RowBegins begins(pass, [this](int64_t position) {
      return std::max<int64_t>(0, position - params().kept);
    });
    pass.backend.Attention(pass.path, params(),
                           {.q = q, .k = k, .v = v, .far_q = far_q},
                           Slices(pass, first_part, begins), out);
    Advance(pass, first_part);
    weights_.o.Forward(pass, out, y);
  }

  AttentionParams params() const {
    return {.heads = heads_,
            .kv_heads = config_.kv_heads,
            .head_dim = config_.head_dim,
            .kept = (config_.limit > 0 ? config_.limit : config_.window) - 1,
            .sinks = config_.sinks,
            .scale = static_cast<float>(
                1.0 / std::sqrt(static_cast<double>(config_.head_dim))),
            .slopes = slopes_.empty() ? nullptr : slopes_.data()};
  }

 private:
  int64_t query_dim() const { return heads_ * config_.head_dim; }
  int64_t kv_dim() const { return config_.kv_heads * config_.head_dim; }

  void NormHeads(const Pass& pass, const Tensor& weight, Rows x) const {
    for (int64_t first = 0; first < x.cols; first += config_.head_dim) {
      const Rows head = {x.data + first, x.rows, config_.head_dim, x.stride};
      pass.backend.RmsNorm(head, weight.values(), norm_eps_, head);
    }
  }

  // Turns rows by the angles of their positions, at most `last`.
  void Rotate(const Pass& pass, int64_t last,
              std::initializer_list<Rows> operands) const {
    Rows cosines = pass.Scratch(config_.head_dim / 2);
    Rows sines = pass.Scratch(config_.head_dim / 2);
    for (const PassSlice& slice : pass.slices) {
      for (int64_t i = 0; i < slice.rows; ++i) {
        const int64_t position = std::min(slice.position + i, last);
        for (size_t m = 0; m < frequencies_.size(); ++m) {
          const double angle = static_cast<double>(position) * frequencies_[m];
          cosines.row(slice.first_row + i)[m] = static_cast<float>(
              config_.rope.attention_factor * std::cos(angle));
          sines.row(slice.first_row + i)[m] = static_cast<float>(
              config_.rope.attention_factor * std::sin(angle));
        }
      }
    }
    for (const Rows& x : operands) {
      pass.backend.Rotate(config_.pairs, cosines, sines, config_.head_dim, x);
    }
  }

  absl::InlinedVector<AttentionSlice, kMaxPassSlices> Slices(
      const Pass& pass, int64_t first_part, const RowBegins& begins) const {
    const int64_t ring = first_part + int64_t(AttentionPart::kRing);
    const int64_t sinks = first_part + int64_t(AttentionPart::kSinks);
    absl::InlinedVector<AttentionSlice, kMaxPassSlices> slices;
    for (const PassSlice& slice : pass.slices) {
      slices.push_back({.first_row = slice.first_row,
                        .rows = slice.rows,
                        .position = slice.position,
                        .begins = begins.of(slice),
                        .ring = slice.state->ring(ring),
                        .ring_rows = slice.state->ring_rows(ring),
                        .sinks = config_.sinks > 0
                                     ? slice.state->mutable_contents(sinks)
                                     : nullptr});
    }
    return slices;
  }

  // Says what the rows made of the states. A ring needs no word.
  void Advance(const Pass& pass, int64_t first_part) const {
    if (config_.sinks == 0) return;
    const int64_t part = first_part + int64_t(AttentionPart::kSinks);
    for (const PassSlice& slice : pass.slices) {
      const int64_t room = config_.sinks - slice.state->rows(part);
      slice.state->Append(part, std::min(room, slice.rows));
    }
  }

  const int64_t heads_;
  const float norm_eps_;
  const AttentionConfig config_;
  const AttentionWeights weights_;
  const std::vector<double> frequencies_;  // of the pairs of a head
  std::vector<float> slopes_;              // [heads], or none
};

}  // namespace

absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeAttention(
    const BuildContext& context, const std::string& prefix) {
  const ModelConfig& config = context.config;
  const AttentionConfig& attention = config.attention;
  Weights& weights = context.weights;
  const int64_t query_dim = config.heads * attention.head_dim;
  const int64_t kv_dim = attention.kv_heads * attention.head_dim;
  const auto take = [&](const char* name, int64_t out, int64_t in, bool bias) {
    return Projection::Take(
        context, prefix + name, out, in,
        bias ? Projection::Bias::kAdded : Projection::Bias::kNone);
  };
  const int64_t dim = config.model_dim;
  MNEME_ASSIGN_OR_RETURN(Projection q,
                         take("q_proj", query_dim, dim, attention.qkv_bias));
  MNEME_ASSIGN_OR_RETURN(Projection k,
                         take("k_proj", kv_dim, dim, attention.qkv_bias));
  MNEME_ASSIGN_OR_RETURN(Projection v,
                         take("v_proj", kv_dim, dim, attention.qkv_bias));
  MNEME_ASSIGN_OR_RETURN(Projection o,
                         take("o_proj", dim, query_dim, attention.o_bias));
  AttentionWeights w = {std::move(q), std::move(k), std::move(v),
                        std::move(o), {},           {}};
  if (attention.qk_norm) {
    MNEME_ASSIGN_OR_RETURN(
        w.q_norm,
        weights.TakeTensor(prefix + "q_norm.weight", {attention.head_dim}));
    MNEME_ASSIGN_OR_RETURN(
        w.k_norm,
        weights.TakeTensor(prefix + "k_norm.weight", {attention.head_dim}));
  }
  // A buffer that some checkpoints carry; it follows from the config.
  weights.Ignore(prefix + "rotary_emb.inv_freq");
  auto mixer = std::make_unique<Attention>(config, std::move(w));
  MNEME_RETURN_IF_ERROR(
      context.backend.Reserve(mixer->params(), context.max_rows));
  return mixer;
}

}  // namespace mneme
