// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_NORM_H_
#define MNEME_ENGINE_MODEL_NORM_H_

#include <string>

#include "absl/status/statusor.h"
#include "engine/model/pass.h"
#include "engine/tensor/tensor.h"

namespace mneme {

// The normalisation that the config names, with its weights: RMSNorm, or
// LayerNorm with a bias. Immutable and thread-safe.
class Norm {
 public:
  // Takes `name`.weight [model_dim], and `name`.bias for LayerNorm. Errors as
  // Weights.
  static absl::StatusOr<Norm> Take(const BuildContext& context,
                                   const std::string& name);

  // y = the normalised rows of x; y may be x.
  void Forward(Backend& backend, ConstRows x, Rows y) const;

 private:
  Norm(NormType type, float eps) : type_(type), eps_(eps) {}

  NormType type_;
  float eps_;
  Tensor weight_;  // [model_dim]
  Tensor bias_;    // likewise; with LayerNorm
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_NORM_H_
