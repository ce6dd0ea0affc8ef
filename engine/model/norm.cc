// SPDX-License-Identifier: Apache-2.0
#include "engine/model/norm.h"

#include "engine/base/status_macros.h"

namespace mneme {

absl::StatusOr<Norm> Norm::Take(const BuildContext& context,
                                const std::string& name) {
  const ModelConfig& config = context.config;
  Norm norm(config.norm, config.norm_eps);
  const Shape shape = {config.model_dim};
  MNEME_ASSIGN_OR_RETURN(norm.weight_,
                         context.weights.TakeTensor(name + ".weight", shape));
  if (config.norm == NormType::kLayer) {
    MNEME_ASSIGN_OR_RETURN(norm.bias_,
                           context.weights.TakeTensor(name + ".bias", shape));
  }
  return norm;
}

void Norm::Forward(Backend& backend, ConstRows x, Rows y) const {
  if (type_ == NormType::kRms) {
    backend.RmsNorm(x, weight_.values(), eps_, y);
  } else {
    backend.LayerNorm(x, weight_.values(), bias_.values(), eps_, y);
  }
}

}  // namespace mneme
