// SPDX-License-Identifier: Apache-2.0
#include "engine/model/feed_forward.h"

#include "engine/base/status_macros.h"

namespace mneme {

absl::StatusOr<FeedForward> FeedForward::Take(const BuildContext& context,
                                              const std::string& prefix) {
  const ModelConfig& config = context.config;
  const auto bias =
      config.ffn_bias ? Projection::Bias::kAdded : Projection::Bias::kNone;
  const auto widen = [&](const char* name) {
    return Projection::Take(context, prefix + name, config.ffn_dim,
                            config.model_dim, bias);
  };
  MNEME_ASSIGN_OR_RETURN(Projection up, widen("up_proj"));
  MNEME_ASSIGN_OR_RETURN(
      Projection down,
      Projection::Take(context, prefix + "down_proj", config.model_dim,
                       config.ffn_dim, bias));
  FeedForward ffn(config.activation, config.ffn_dim, std::move(up),
                  std::move(down));
  if (config.ffn_gate) {
    MNEME_ASSIGN_OR_RETURN(ffn.gate_, widen("gate_proj"));
  }
  return ffn;
}

void FeedForward::Forward(const Pass& pass, ConstRows h, Rows y) const {
  const Workspace::Frame frame(pass.workspace);
  Rows up = pass.Scratch(dim_);
  up_.Forward(pass, h, up);
  if (!gate_.has_value()) {
    pass.backend.Activate(activation_, {}, up);
    return down_.Forward(pass, up, y);
  }
  Rows gate = pass.Scratch(dim_);
  gate_->Forward(pass, h, gate);
  pass.backend.Activate(activation_, up, gate);
  down_.Forward(pass, gate, y);
}

int64_t FeedForward::weight_bytes() const {
  return up_.bytes() + down_.bytes() + (gate_.has_value() ? gate_->bytes() : 0);
}

int64_t FeedForward::scratch_bytes(int64_t rows) const {
  return (gate_.has_value() ? 2 : 1) * Pass::ScratchBytes(rows, dim_);
}

}  // namespace mneme
