// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_SHARD_INDEX_H_
#define MNEME_ENGINE_MODEL_SHARD_INDEX_H_

#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mneme {

// The file that holds each tensor, by the tensor's name.
using ShardIndex = std::map<std::string, std::string>;

// Reads model.safetensors.index.json: an object of "weight_map", the tensors
// and their files, and "metadata", which is passed over. A file is a name in
// the index's own folder that ends in .safetensors. INVALID_ARGUMENT naming
// the key or the tensor, the found and the wanted.
absl::StatusOr<ShardIndex> ParseShardIndex(std::string_view json_text);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_SHARD_INDEX_H_
