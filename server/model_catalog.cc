// SPDX-License-Identifier: Apache-2.0
#include "server/model_catalog.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/resource_id.h"
#include "engine/base/status_macros.h"
#include "server/convert.h"
#include "server/names.h"

namespace mneme::server {
namespace {

// What makes a directory a model's.
bool HoldsModel(const std::filesystem::path& directory) {
  std::error_code error;
  return std::filesystem::is_regular_file(directory / "config.json", error);
}

}  // namespace

absl::StatusOr<std::string> ModelCatalog::DirectoryOf(
    const std::string& name) const {
  const auto found = options_.directories.find(name);
  if (found != options_.directories.end()) return found->second;
  // An id has no slash and does not begin with a dot.
  if (!options_.root.empty() && IsResourceId(name)) {
    std::string directory = absl::StrCat(options_.root, "/", name);
    if (HoldsModel(directory)) return directory;
  }
  return WithReason(
      absl::NotFoundError(absl::StrCat(
          "model ", name, ": neither does the configuration name it nor is ",
          options_.root.empty() ? "there a model root"
                                : "there a directory of that name in the "
                                  "model root")),
      {.reason = "MODEL_NOT_FOUND", .metadata = {}});
}

absl::Status ModelCatalog::Load(const std::string& name) {
  MNEME_ASSIGN_OR_RETURN(const std::string directory, DirectoryOf(name));
  absl::Status status = options_.engine->LoadModel(name, directory);
  if (absl::IsAlreadyExists(status)) return status;
  {
    absl::MutexLock lock(&mu_);
    if (status.ok()) {
      failures_.erase(name);
    } else {
      failures_[name] = std::string(status.message());
    }
  }
  MNEME_RETURN_IF_ERROR(status);
  MNEME_ASSIGN_OR_RETURN(const ModelInfo model,
                         options_.engine->GetModel(name));
  options_.metrics->AddModel(model);
  return absl::OkStatus();
}

absl::Status ModelCatalog::Unload(const std::string& name, bool force) {
  MNEME_RETURN_IF_ERROR(options_.engine->UnloadModel(name, force));
  options_.metrics->RemoveModel(name);
  return absl::OkStatus();
}

std::vector<v1::Model> ModelCatalog::List() const {
  std::map<std::string, v1::Model> models;
  for (const auto& [name, directory] : options_.directories) models[name];
  if (!options_.root.empty()) {
    std::error_code error;  // what cannot be read holds nothing
    for (std::filesystem::directory_iterator entry(options_.root, error);
         !error && entry != std::filesystem::directory_iterator();
         entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      if (IsResourceId(name) && HoldsModel(entry->path())) models[name];
    }
  }
  {
    absl::MutexLock lock(&mu_);
    for (auto& [name, model] : models) {
      model.set_name(ModelName(name));
      const auto failure = failures_.find(name);
      if (failure == failures_.end()) {
        model.set_state(v1::Model::UNLOADED);
      } else {
        model.set_state(v1::Model::FAILED);
        model.set_state_detail(failure->second);
      }
    }
  }
  for (const ModelInfo& info : options_.engine->ListModels()) {
    models[info.name] = ToProto(info);
  }
  for (const EngineStats::ModelStats& stats : options_.engine->stats().models) {
    const auto model = models.find(stats.model);
    if (model != models.end())
      model->second.set_hot_sessions(stats.hot_sessions);
  }
  std::vector<v1::Model> list;
  list.reserve(models.size());
  for (auto& [name, model] : models) list.push_back(std::move(model));
  return list;
}

absl::StatusOr<v1::Model> ModelCatalog::Get(const std::string& name) const {
  for (v1::Model& model : List()) {
    if (model.name() == ModelName(name)) return std::move(model);
  }
  return WithReason(
      absl::NotFoundError(absl::StrCat("model ", name, " is not known")),
      {.reason = "MODEL_NOT_FOUND", .metadata = {}});
}

}  // namespace mneme::server
