// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_MODEL_CATALOG_H_
#define MNEME_SERVER_MODEL_CATALOG_H_

#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/engine.h"
#include "mneme/v1/models.pb.h"
#include "server/metrics.h"

namespace mneme::server {

// The models that a node may serve: those that its configuration names, and
// the directories in its model root. Nothing else can be loaded, whoever asks.
// Thread-safe.
class ModelCatalog {
 public:
  struct Options {
    Engine* engine = nullptr;                        // outlives the catalog
    Metrics* metrics = nullptr;                      // likewise
    std::map<std::string, std::string> directories;  // by model name
    std::string root;                                // empty: none
  };
  explicit ModelCatalog(Options options) : options_(std::move(options)) {}

  // Where a model lies. NOT_FOUND (MODEL_NOT_FOUND).
  absl::StatusOr<std::string> DirectoryOf(const std::string& name) const;

  // Blocks until it is loaded. Errors as DirectoryOf and Engine::LoadModel; the
  // latter are remembered with the model.
  absl::Status Load(const std::string& name);
  // Errors as Engine::UnloadModel.
  absl::Status Unload(const std::string& name, bool force);

  // Loaded or not, by name.
  std::vector<v1::Model> List() const;
  // NOT_FOUND (MODEL_NOT_FOUND).
  absl::StatusOr<v1::Model> Get(const std::string& name) const;

 private:
  const Options options_;
  mutable absl::Mutex mu_;
  // Why a model could not be loaded when it was tried last.
  std::map<std::string, std::string> failures_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_MODEL_CATALOG_H_
