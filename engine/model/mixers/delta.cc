// SPDX-License-Identifier: Apache-2.0
#include "engine/model/mixers/delta.h"

#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "engine/base/status_macros.h"
#include "engine/model/mixers/ttt_projections.h"

namespace mneme {
namespace {

class Delta final : public SequenceMixer {
 public:
  Delta(const ModelConfig& config, TttProjections projections)
      : params_{.heads = config.ttt_heads(), .head_dim = config.ttt_head_dim()},
        projections_(std::move(projections)) {}

  std::string_view kind() const override { return "delta"; }
  int64_t segment_tokens() const override { return 1; }

  int64_t weight_bytes() const override { return projections_.weight_bytes(); }

  LayerSpec state_spec() const override {
    LayerSpec spec = {{.name = "weights",
                       .kind = PartKind::kRewritten,
                       .rows = weight_rows(),
                       .row_floats = params_.head_dim}};
    projections_.AddWindow(spec);
    return spec;
  }

  void InitialiseState(int64_t /*first_part*/,
                       SessionState& /*state*/) const override {}

  int64_t scratch_bytes(int64_t rows) const override {
    return projections_.scratch_bytes(rows) +
           Pass::ScratchBytes(rows, params_.heads * params_.head_dim);  // out
  }

  void Forward(const Pass& pass, int64_t first_part, ConstRows h,
               Rows y) const override {
    const Workspace::Frame frame(pass.workspace);
    const int64_t weights = first_part + int64_t(DeltaPart::kWeights);
    const TttProjections::Operands operands =
        projections_.Project(pass, first_part + int64_t(DeltaPart::kWindow), h);
    Rows out = pass.Scratch(params_.heads * params_.head_dim);
    absl::InlinedVector<DeltaSlice, kMaxPassSlices> slices;
    for (const PassSlice& slice : pass.slices) {
      slices.push_back({.first_row = slice.first_row,
                        .rows = slice.rows,
                        .weights = slice.state->contents(weights),
                        .next_weights = slice.state->spare(weights)});
    }
    pass.backend.Delta(params_,
                       {.q = operands.q,
                        .k = operands.k,
                        .v = operands.v,
                        .learning_rate = operands.rate},
                       absl::MakeSpan(slices), out);
    for (size_t i = 0; i < slices.size(); ++i) {
      if (slices[i].wrote)
        pass.slices[i].state->Replace(weights, weight_rows());
    }
    projections_.Finish(pass, operands, out, y);
  }

  const DeltaParams& params() const { return params_; }

 private:
  int64_t weight_rows() const { return params_.heads * params_.head_dim; }

  const DeltaParams params_;
  const TttProjections projections_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeDelta(
    const BuildContext& context, const std::string& prefix) {
  MNEME_ASSIGN_OR_RETURN(TttProjections projections,
                         TttProjections::Take(context, prefix));
  auto mixer = std::make_unique<Delta>(context.config, std::move(projections));
  MNEME_RETURN_IF_ERROR(
      context.backend.Reserve(mixer->params(), context.max_rows));
  return mixer;
}

}  // namespace mneme
