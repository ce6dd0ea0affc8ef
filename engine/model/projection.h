// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_PROJECTION_H_
#define MNEME_ENGINE_MODEL_PROJECTION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/pass.h"
#include "engine/tensor/tensor.h"

namespace mneme {

// An affine map, or a linear one. Immutable and thread-safe.
class Projection {
 public:
  enum class Bias { kNone, kAdded };

  // Takes `name`.weight [out, in], and `name`.bias [out] if there is one.
  // Errors as Weights.
  static absl::StatusOr<Projection> Take(const BuildContext& context,
                                         const std::string& name, int64_t out,
                                         int64_t in, Bias bias = Bias::kNone);

  // y [rows, out] = the map of x [rows, in].
  void Forward(const Pass& pass, ConstRows x, Rows y) const;

  int64_t bytes() const { return weight_->bytes(); }

 private:
  std::unique_ptr<const Matrix> weight_;  // [out, in]
  Tensor bias_;                           // [out], or empty
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_PROJECTION_H_
