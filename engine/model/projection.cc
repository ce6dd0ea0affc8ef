// SPDX-License-Identifier: Apache-2.0
#include "engine/model/projection.h"

#include "engine/base/status_macros.h"

namespace mneme {

absl::StatusOr<Projection> Projection::Take(const BuildContext& context,
                                            const std::string& name,
                                            int64_t out, int64_t in,
                                            Bias bias) {
  Projection projection;
  MNEME_ASSIGN_OR_RETURN(
      projection.weight_,
      context.weights.TakeMatrix(name + ".weight", {out, in}, context.backend));
  if (bias == Bias::kAdded) {
    MNEME_ASSIGN_OR_RETURN(projection.bias_,
                           context.weights.TakeTensor(name + ".bias", {out}));
  }
  return projection;
}

void Projection::Forward(const Pass& pass, ConstRows x, Rows y) const {
  pass.backend.Matmul(pass.path, *weight_, x, y);
  if (!bias_.values().empty()) pass.backend.AddBias(bias_.values(), y);
}

}  // namespace mneme
