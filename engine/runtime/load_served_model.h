// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_LOAD_SERVED_MODEL_H_
#define MNEME_ENGINE_RUNTIME_LOAD_SERVED_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/ops/backend.h"
#include "engine/runtime/scheduler.h"
#include "engine/runtime/served_model.h"

namespace mneme {

// Loads the directory `directory` with its tokenizer, to be called `name`, and
// makes room for its passes. Other models' passes go on: each weight is
// prepared between two of them. Errors as Model::Load. Thread-safe.
absl::StatusOr<std::shared_ptr<const ServedModel>> LoadServedModel(
    const std::string& name, const std::string& directory,
    const ModelSettings& settings, Backend& backend, const Clock& clock,
    Scheduler& scheduler);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_LOAD_SERVED_MODEL_H_
