// SPDX-License-Identifier: Apache-2.0
//
// The engine's models: loading, finding, describing.
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/engine_impl.h"
#include "engine/model/model.h"
#include "engine/runtime/load_served_model.h"
#include "engine/runtime/requests.h"
#include "engine/text/sampler.h"

namespace mneme {
namespace {

absl::Status Loading(const std::string& name) {
  return WithReason(
      absl::UnavailableError(absl::StrCat("model ", name, " is being loaded")),
      {.reason = "MODEL_LOADING", .metadata = {}});
}

StatePartInfo::Growth GrowthOf(const PartSpec& part) {
  switch (part.kind) {
    case PartKind::kRewritten:
      return StatePartInfo::Growth::kFixed;
    case PartKind::kAppended:
      return part.starts_over ? StatePartInfo::Growth::kSegment
                              : StatePartInfo::Growth::kFirst;
    case PartKind::kRing:
      return StatePartInfo::Growth::kWindow;
  }
  return StatePartInfo::Growth::kFixed;
}

// Equal parts of several layers are told of once.
std::vector<StatePartInfo> StateParts(const StateSpec& spec) {
  std::vector<StatePartInfo> parts;
  for (const LayerSpec& layer : spec.layers) {
    for (const PartSpec& part : layer) {
      const auto same =
          std::find_if(parts.begin(), parts.end(), [&](const auto& other) {
            return other.name == part.name && other.rows == part.rows &&
                   other.row_floats == part.row_floats &&
                   other.growth == GrowthOf(part);
          });
      if (same != parts.end()) {
        ++same->layers;
      } else if (part.rows > 0) {
        parts.push_back({.name = part.name,
                         .growth = GrowthOf(part),
                         .rows = part.rows,
                         .row_floats = part.row_floats,
                         .layers = 1});
      }
    }
  }
  return parts;
}

}  // namespace

absl::Status EngineImpl::LoadModel(const std::string& name,
                                   const std::string& directory) {
  MNEME_RETURN_IF_ERROR(CheckId("name", name));
  {
    absl::MutexLock lock(&mutex_);
    const auto [place, made] = models_.emplace(name, nullptr);
    if (!made) {
      return absl::AlreadyExistsError(absl::StrCat("model ", name,
                                                   place->second == nullptr
                                                       ? " is being loaded"
                                                       : " is loaded already"));
    }
  }
  absl::StatusOr<std::shared_ptr<const ServedModel>> served = LoadServedModel(
      name, directory, model_settings_, *backend_, *clock_, scheduler_);
  if (served.ok()) sessions_.AddModel(*served);
  absl::MutexLock lock(&mutex_);
  if (!served.ok()) {
    models_.erase(name);
    absl::Status status(served.status().code(),
                        absl::StrCat("model ", name, " from ", directory, ": ",
                                     served.status().message()));
    const absl::optional<ErrorReason> reason = GetReason(served.status());
    return reason.has_value() ? WithReason(status, *reason) : status;
  }
  models_[name] = *std::move(served);
  return absl::OkStatus();
}

absl::Status EngineImpl::UnloadModel(const std::string& name, bool force) {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> served,
                         FindModel(name));
  const SessionTable::Retired retired = sessions_.RetireModel(*served, force);
  if (retired.sessions > 0 && !force) {
    return WithReason(
        absl::FailedPreconditionError(
            absl::StrCat("model ", name, " has ", retired.sessions,
                         " sessions; delete them, or unload with force")),
        {.reason = "MODEL_IN_USE",
         .metadata = {{"sessions", absl::StrCat(retired.sessions)}}});
  }
  {
    absl::MutexLock lock(&mutex_);
    const auto it = models_.find(name);
    if (it == models_.end() || it->second != served) {
      return absl::NotFoundError(
          absl::StrCat("model ", name, " is not loaded"));
    }
    models_.erase(it);
  }
  for (const std::shared_ptr<Session>& session : retired.taken) {
    EndSession(session, SessionEvent::Kind::kDeleted);
    Erase(session->uid());
    observer_->OnSessionEvent(session->model_name(), SessionEventKind::kDelete);
  }
  scheduler_.RemoveModel(*served->model);
  return absl::OkStatus();
}

ModelInfo EngineImpl::Describe(const ServedModel& served) const {
  const Model& model = *served.model;
  const ModelConfig& config = model.config();
  ModelInfo info;
  info.name = served.name;
  info.state = ModelState::kLoaded;
  info.fingerprint = model.fingerprint();
  info.kind = config.model_type;
  info.mixers = model.mixer_kinds();
  info.tokenizer = served.tokenizer == nullptr
                       ? "none"
                       : std::string(served.tokenizer->kind());
  info.arithmetic_level = model.arithmetic_level();
  info.parameters = model.parameters();
  info.layers = config.layers;
  info.model_dim = config.model_dim;
  info.vocab_size = config.vocab_size;
  info.weight_bytes = model.weight_bytes();
  info.state_bytes = model.layout()->state_bytes();
  info.scratch_bytes = model.workspace_bytes(model.max_rows());
  info.transfer_bytes = kStoreThreads * Session::TransferBytes(served);
  info.stream_bytes = StreamBytes(model);
  info.index_bytes = Session::HotBytes(served) - info.state_bytes;
  info.block_tokens = model.block_tokens();
  info.segment_tokens = model.segment_tokens();
  info.token_limit = model.config().token_limit();
  info.state_parts = StateParts(model.layout()->spec());
  if (served.chat != nullptr) {
    info.chat_template = std::string(served.chat->kind());
  }
  info.bos_token =
      served.tokenizer != nullptr ? served.tokenizer->bos() : config.bos_token;
  info.eos_tokens = config.eos_tokens;
  info.load_time = served.load_time;
  info.sessions = sessions_.CountOf(served);
  return info;
}

std::vector<ModelInfo> EngineImpl::ListModels() const {
  absl::MutexLock lock(&mutex_);
  std::vector<ModelInfo> models;
  for (const auto& [name, served] : models_) {
    if (served != nullptr) {
      models.push_back(Describe(*served));
    } else {
      models.push_back({.name = name, .state = ModelState::kLoading});
    }
  }
  return models;
}

absl::StatusOr<ModelInfo> EngineImpl::GetModel(const std::string& name) const {
  for (ModelInfo& model : ListModels()) {
    if (model.name == name) return std::move(model);
  }
  return absl::NotFoundError(absl::StrCat("model ", name, " is not loaded"));
}

absl::StatusOr<std::shared_ptr<const ServedModel>> EngineImpl::FindModel(
    const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  const auto it = models_.find(name);
  if (it == models_.end()) {
    return absl::NotFoundError(absl::StrCat("model ", name, " is not loaded"));
  }
  if (it->second == nullptr) return Loading(name);
  return it->second;
}

absl::StatusOr<std::vector<TextToken>> EngineImpl::Tokenize(
    const std::string& model, std::string_view text) const {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> served,
                         FindModel(model));
  return served->Tokenize(text);
}

absl::StatusOr<std::string> EngineImpl::Detokenize(
    const std::string& model, const std::vector<int32_t>& tokens) const {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> served,
                         FindModel(model));
  return served->Detokenize(tokens);
}

}  // namespace mneme
