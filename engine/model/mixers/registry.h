// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_MIXERS_REGISTRY_H_
#define MNEME_ENGINE_MODEL_MIXERS_REGISTRY_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/mixers/sequence_mixer.h"

namespace mneme {

// Builds the mixer that the config gives to layer `layer`. Errors as Weights.
absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeMixer(
    const BuildContext& context, int64_t layer);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MIXERS_REGISTRY_H_
