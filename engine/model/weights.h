// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_WEIGHTS_H_
#define MNEME_ENGINE_MODEL_WEIGHTS_H_

#include <cstdint>
#include <functional>
#include <map>
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

// Where a checkpoint keeps a tensor that it spells otherwise, or as a part of
// another.
struct TensorSource {
  std::string name;
  // The file has [in, out] instead of [out, in].
  bool transposed = false;
  // The rows that are wanted of `all_rows`: `run` of them from `first`, and
  // again `period` further on, until as many are found. 0: all rows.
  int64_t all_rows = 0;
  int64_t first = 0;
  int64_t run = 0;
  int64_t period = 0;

  // Whether the file has the tensor itself, under its name there.
  bool as_is() const { return !transposed && all_rows == 0; }
};

// The tensors of a checkpoint directory, taken one by one while a model is
// built, so that a tensor that nothing asked for is found. They are asked for
// by the names that Llama's checkpoints have, and by names of the same kind
// for what Llama has not.
class Weights {
 public:
  // Opens the checkpoint in `directory`. Errors as Checkpoint::Open.
  static absl::StatusOr<Weights> Open(const std::string& directory);

  // Tensors that come to be when they are asked for, each as `create` makes it.
  using Create =
      std::function<Tensor(const std::string& name, const Shape& shape)>;
  static Weights Creating(Create create);
  // Those that did, by the names that the file has.
  const std::map<std::string, Tensor>& created() const { return created_; }

  // Whether the file has a tensor of that name.
  bool Has(const std::string& name) const;

  // Says where the tensors are that the file spells otherwise.
  void SetSources(
      std::function<TensorSource(const std::string& name)> source_of) {
    source_of_ = std::move(source_of);
  }

  // A tensor widened to f32. INVALID_ARGUMENT if it is missing, not of
  // `shape`, of an element type that does not widen to f32, or holds a number
  // that is not finite.
  absl::StatusOr<Tensor> TakeTensor(const std::string& name,
                                    const Shape& shape);
  // For a weight [out, in] that is multiplied with.
  absl::StatusOr<std::unique_ptr<const Matrix>> TakeMatrix(
      const std::string& name, const Shape& shape, Preparer& backend);

  // A tensor that may be there and changes nothing.
  void Ignore(const std::string& name) { ignored_.insert(SourceOf(name).name); }

  // A tensor of the file that may be there to say again what `original`, of
  // [rows, cols], says. INVALID_ARGUMENT if it says something else; `because`
  // is why it may not.
  absl::Status IgnoreCopy(const std::string& name, const std::string& original,
                          const Shape& shape, const std::string& because);

  // INVALID_ARGUMENT naming a tensor that was neither taken nor ignored.
  absl::Status CheckAllTaken() const;

  // SHA-256 over what was taken, in name order: name, dtype, shape, bytes.
  std::string Digest() const;

  // Of what was taken.
  int64_t elements() const;

 private:
  explicit Weights(Checkpoint checkpoint)
      : checkpoint_(std::move(checkpoint)) {}

  TensorSource SourceOf(const std::string& name) const;
  // A tensor of the file, whole. Errors as TakeTensor.
  absl::StatusOr<TensorView> Check(const std::string& name, const Shape& shape);
  // Likewise, and it counts as taken.
  absl::StatusOr<TensorView> Take(const std::string& name, const Shape& shape);
  // The rows of a source that are wanted, in the order of their columns.
  absl::StatusOr<Tensor> TakeParts(const TensorSource& source,
                                   const Shape& shape);

  Checkpoint checkpoint_;
  Create create_;  // or null
  std::map<std::string, Tensor> created_;
  std::function<TensorSource(const std::string& name)> source_of_;
  std::set<std::string> taken_;
  std::set<std::string> ignored_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_WEIGHTS_H_
