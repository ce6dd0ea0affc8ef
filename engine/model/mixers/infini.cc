// SPDX-License-Identifier: Apache-2.0
#include "engine/model/mixers/infini.h"

#include <cmath>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "engine/base/status_macros.h"
#include "engine/model/rotation.h"

namespace mneme {
namespace {

struct InfiniWeights {
  std::unique_ptr<const Matrix> q_proj;          // [heads * head_dim, model]
  std::unique_ptr<const Matrix> k_proj, v_proj;  // [kv_heads * head_dim, model]
  std::unique_ptr<const Matrix> o_proj;          // [model, heads * head_dim]
  std::vector<float> gate;                       // [heads], sigmoid of beta
};

class Infini final : public SequenceMixer {
 public:
  Infini(const ModelConfig& config, InfiniWeights weights)
      : heads_(config.heads),
        config_(config.infini),
        weights_(std::move(weights)),
        rotation_(config_.segment, config_.head_dim, config_.rope_theta) {}

  std::string_view kind() const override {
    return config_.update_rule == "linear" ? "infini_linear" : "infini_delta";
  }
  int64_t segment_tokens() const override { return config_.segment; }

  int64_t weight_bytes() const override {
    return weights_.q_proj->bytes() + weights_.k_proj->bytes() +
           weights_.v_proj->bytes() + weights_.o_proj->bytes() +
           rotation_.bytes();
  }

  LayerSpec state_spec() const override {
    return {{.name = "memory",
             .kind = PartKind::kRewritten,
             .rows = memory_rows(),
             .row_floats = config_.head_dim},
            {.name = "open",
             .kind = PartKind::kAppended,
             .rows = config_.segment,
             .row_floats = params().token_floats()}};
  }

  // A session begins with a memory of zeros.
  void InitialiseState(int64_t /*first_part*/,
                       SessionState& /*state*/) const override {}

  // A segment that is full is written.
  bool HasRightRows(int64_t first_part,
                    const SessionState& state) const override {
    return open_tokens(first_part, state) < config_.segment;
  }

  int64_t scratch_bytes(int64_t rows) const override {
    return 2 * Pass::ScratchBytes(rows, query_dim()) +
           2 * Pass::ScratchBytes(rows, kv_dim());
  }

  void Forward(const Pass& pass, int64_t first_part, ConstRows h,
               Rows y) const override {
    const Workspace::Frame frame(pass.workspace);
    Backend& backend = pass.backend;
    Rows q = pass.Scratch(query_dim());
    Rows k = pass.Scratch(kv_dim());
    Rows v = pass.Scratch(kv_dim());
    Rows out = pass.Scratch(query_dim());
    backend.Matmul(pass.path, *weights_.q_proj, h, q);
    backend.Matmul(pass.path, *weights_.k_proj, h, k);
    backend.Matmul(pass.path, *weights_.v_proj, h, v);
    absl::InlinedVector<InfiniSlice, kMaxPassSlices> slices;
    for (const PassSlice& slice : pass.slices) {
      InfiniSlice& read =
          slices.emplace_back(StateSlice(first_part, *slice.state));
      read.first_row = slice.first_row;
      read.rows = slice.rows;
    }
    backend.Infini(pass.path, params(), {.q = q, .k = k, .v = v}, slices, out);
    for (size_t i = 0; i < slices.size(); ++i) {
      Advance(first_part, slices[i], *pass.slices[i].state);
    }
    backend.Matmul(pass.path, *weights_.o_proj, out, y);
  }

  bool commits_segments() const override { return true; }
  int64_t open_tokens(int64_t first_part,
                      const SessionState& state) const override {
    return state.rows(first_part + int64_t(InfiniPart::kOpen));
  }
  void CommitSegment(Backend& backend, int64_t first_part,
                     SessionState& state) const override {
    if (open_tokens(first_part, state) == 0) return;
    backend.CloseInfiniSegment(params(), StateSlice(first_part, state));
    state.Replace(first_part + int64_t(InfiniPart::kMemory), memory_rows());
    state.Replace(first_part + int64_t(InfiniPart::kOpen), 0);
  }

  InfiniParams params() const {
    return {.heads = heads_,
            .kv_heads = config_.kv_heads,
            .head_dim = config_.head_dim,
            .segment = config_.segment,
            .delta = config_.update_rule == "linear_delta",
            .epsilon = config_.epsilon,
            .gate = weights_.gate.data(),
            .rope_cos = rotation_.cosines.data(),
            .rope_sin = rotation_.sines.data()};
  }

 private:
  int64_t query_dim() const { return heads_ * config_.head_dim; }
  int64_t kv_dim() const { return config_.kv_heads * config_.head_dim; }
  int64_t memory_rows() const {
    return config_.kv_heads * (config_.head_dim + 1);
  }

  // A slice of no rows.
  static InfiniSlice StateSlice(int64_t first_part, SessionState& state) {
    const int64_t memory = first_part + int64_t(InfiniPart::kMemory);
    const int64_t open = first_part + int64_t(InfiniPart::kOpen);
    return {.slot = state.rows(open),
            .memory = state.contents(memory),
            .next_memory = state.spare(memory),
            .open = state.mutable_contents(open),
            .next_open = state.spare(open)};
  }

  // Says what the rows of a slice made of the state.
  void Advance(int64_t first_part, const InfiniSlice& slice,
               SessionState& state) const {
    const int64_t open = first_part + int64_t(InfiniPart::kOpen);
    const int64_t tokens = slice.slot + slice.rows;
    if (tokens < config_.segment) {
      state.Append(open, slice.rows);
    } else {
      state.Replace(first_part + int64_t(InfiniPart::kMemory), memory_rows());
      state.Replace(open, tokens % config_.segment);
    }
  }

  const int64_t heads_;
  const InfiniConfig config_;
  const InfiniWeights weights_;
  const Rotation rotation_;  // by slot in the segment
};

// sigmoid(beta) of each query head, or of all where the config has it; some
// checkpoints call it "gate".
absl::StatusOr<std::vector<float>> TakeGate(const ModelConfig& config,
                                            const std::string& prefix,
                                            Weights& weights) {
  const auto sigmoid = [](double x) {
    return static_cast<float>(1.0 / (1.0 + std::exp(-x)));
  };
  if (config.infini.gate.has_value()) {
    return std::vector<float>(config.heads, sigmoid(*config.infini.gate));
  }
  const bool alias = weights.Has(prefix + "gate");
  MNEME_ASSIGN_OR_RETURN(
      const Tensor beta,
      alias ? weights.TakeTensor(prefix + "gate", {1, config.heads, 1, 1})
            : weights.TakeTensor(prefix + "beta", {config.heads}));
  std::vector<float> gate;
  for (const float value : beta.values()) gate.push_back(sigmoid(value));
  return gate;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeInfini(
    const BuildContext& context, const std::string& prefix) {
  const ModelConfig& config = context.config;
  Weights& weights = context.weights;
  const int64_t query_dim = config.heads * config.infini.head_dim;
  const int64_t kv_dim = config.infini.kv_heads * config.infini.head_dim;
  const auto take = [&](const char* name, int64_t out, int64_t in) {
    return weights.TakeMatrix(prefix + name, {out, in}, context.backend);
  };
  InfiniWeights w;
  MNEME_ASSIGN_OR_RETURN(w.q_proj,
                         take("q_proj.weight", query_dim, config.model_dim));
  MNEME_ASSIGN_OR_RETURN(w.k_proj,
                         take("k_proj.weight", kv_dim, config.model_dim));
  MNEME_ASSIGN_OR_RETURN(w.v_proj,
                         take("v_proj.weight", kv_dim, config.model_dim));
  MNEME_ASSIGN_OR_RETURN(w.o_proj,
                         take("o_proj.weight", config.model_dim, query_dim));
  MNEME_ASSIGN_OR_RETURN(w.gate, TakeGate(config, prefix, weights));
  // A buffer that some checkpoints carry; it follows from the config.
  weights.Ignore(prefix + "rotary_emb.inv_freq");
  auto mixer = std::make_unique<Infini>(config, std::move(w));
  MNEME_RETURN_IF_ERROR(
      context.backend.Reserve(mixer->params(), context.max_rows));
  return mixer;
}

}  // namespace mneme
