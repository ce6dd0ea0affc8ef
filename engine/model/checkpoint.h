// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_CHECKPOINT_H_
#define MNEME_ENGINE_MODEL_CHECKPOINT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/safetensors.h"

namespace mneme {

// The tensors of a folder, mapped read-only: those of model.safetensors, or
// those of the shards that model.safetensors.index.json names.
class Checkpoint {
 public:
  // NOT_FOUND if there is neither, or no shard of a name that the index gives.
  // INVALID_ARGUMENT, naming the file and the tensor, if there are both, a
  // file is damaged, or the shards do not hold the tensors that the index puts
  // there and no others.
  static absl::StatusOr<Checkpoint> Open(const std::string& directory);

  // No tensors.
  Checkpoint() = default;

  // Alive as long as this object, also after it was moved.
  const TensorMap& tensors() const { return tensors_; }

 private:
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  TensorMap tensors_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_CHECKPOINT_H_
