// SPDX-License-Identifier: Apache-2.0
//
// Models of named sizes with random weights: for benchmarks and tests, which
// then need no download. Their text means nothing; their shapes, costs and
// memory are those of a trained model.
#ifndef MNEME_ENGINE_TOOLS_PRESETS_H_
#define MNEME_ENGINE_TOOLS_PRESETS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/model_config.h"

namespace mneme {

std::vector<std::string> PresetNames();
// Those of them that are small enough for tests: one at least for every mixer.
std::vector<std::string> TinyPresetNames();

// INVALID_ARGUMENT naming the known ones.
absl::StatusOr<ModelConfig> PresetConfig(const std::string& preset);

// Writes config.json and model.safetensors into `directory`, which is made if
// it is not there. Equal arguments give equal bytes. The weights are drawn so
// that activations keep their size through the layers, and every parameter
// that training would move off its initial value is moved off it.
absl::Status WriteRandomModel(const ModelConfig& config, uint64_t seed,
                              const std::string& directory);

}  // namespace mneme

#endif  // MNEME_ENGINE_TOOLS_PRESETS_H_
