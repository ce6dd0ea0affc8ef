// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_FAULT_ENGINE_RIG_H_
#define MNEME_TESTS_FAULT_ENGINE_RIG_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/status_macros.h"
#include "engine/engine_impl.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/store/open_store.h"
#include "engine/tools/presets.h"
#include "tests/support/temp_dir.h"

namespace mneme {

// Engines over stores of a test's choice, with two models of random weights.
class EngineRig {
 public:
  static constexpr int kModels = 2;
  static std::string ModelName(int i) { return i % 2 == 0 ? "ttt" : "infini"; }

  absl::Status MakeModels() {
    for (int i = 0; i < kModels; ++i) {
      MNEME_ASSIGN_OR_RETURN(
          const ModelConfig config,
          PresetConfig(ModelName(i) == "ttt" ? "ttt-linear-tiny"
                                             : "infini-tiny"));
      MNEME_RETURN_IF_ERROR(WriteRandomModel(config, 1, models_[i].path()));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<EngineImpl>> Start(
      absl::StatusOr<std::unique_ptr<SessionStore>> store,
      EngineOptions options = {}) const {
    MNEME_RETURN_IF_ERROR(store.status());
    options.threads = 1;
    if (options.session_memory_bytes == 0) {
      options.session_memory_bytes = 12 << 20;
    }
    options.snapshot_interval_tokens = 150;
    options.snapshots_kept = 40;
    auto engine = std::make_unique<EngineImpl>(options, MakeCpuBackend(1),
                                               *std::move(store));
    MNEME_RETURN_IF_ERROR(engine->ReadStore());
    for (int i = 0; i < kModels; ++i) {
      MNEME_RETURN_IF_ERROR(engine->LoadModel(ModelName(i), models_[i].path()));
    }
    return engine;
  }

 private:
  TempDir models_[kModels];
};

}  // namespace mneme

#endif  // MNEME_TESTS_FAULT_ENGINE_RIG_H_
