// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_WEIGHTS_H_
#define MNEME_ENGINE_MODEL_WEIGHTS_H_

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/checkpoint.h"
#include "engine/ops/backend.h"
#include "engine/tensor/tensor.h"

namespace mneme {

// The tensors of a checkpoint directory, taken one by one while a model is
// built, so that a tensor that nothing asked for is found.
class Weights {
 public:
  // Opens the checkpoint in `directory`. Errors as Checkpoint::Open.
  static absl::StatusOr<Weights> Open(const std::string& directory);

  bool Has(const std::string& name) const;

  // INVALID_ARGUMENT if the tensor is missing, not of `shape`, of an element
  // type that does not widen to f32, or holds a number that is not finite.
  absl::StatusOr<TensorView> Take(const std::string& name, const Shape& shape);
  // Widened to f32.
  absl::StatusOr<Tensor> TakeTensor(const std::string& name,
                                    const Shape& shape);
  // For a weight [out, in] that is multiplied with.
  absl::StatusOr<std::unique_ptr<const Matrix>> TakeMatrix(
      const std::string& name, const Shape& shape, Preparer& backend);

  // A tensor that may be there and changes nothing, taken before or not.
  void Ignore(const std::string& name) {
    taken_.erase(name);
    ignored_.insert(name);
  }

  // INVALID_ARGUMENT naming a tensor that was neither taken nor ignored.
  absl::Status CheckAllTaken() const;

  // SHA-256 over what was taken, in name order: name, dtype, shape, bytes.
  std::string Digest() const;

  // Of what was taken.
  int64_t elements() const;

 private:
  explicit Weights(Checkpoint checkpoint)
      : checkpoint_(std::move(checkpoint)) {}

  Checkpoint checkpoint_;
  std::set<std::string> taken_;
  std::set<std::string> ignored_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_WEIGHTS_H_
