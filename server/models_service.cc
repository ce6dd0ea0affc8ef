// SPDX-License-Identifier: Apache-2.0
#include "server/models_service.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/answer.h"
#include "server/names.h"

namespace mneme::server {

grpc::ServerUnaryReactor* ModelsService::ListModels(
    grpc::CallbackServerContext* call, const v1::ListModelsRequest* request,
    v1::ListModelsResponse* reply) {
  return Answer(call, context_, "mneme.v1.Models/ListModels", "",
                [&] { return List(*request, reply); });
}

absl::Status ModelsService::List(const v1::ListModelsRequest& request,
                                 v1::ListModelsResponse* reply) {
  MNEME_ASSIGN_OR_RETURN(const int64_t limit, PageSize(request.page_size()));
  MNEME_ASSIGN_OR_RETURN(const std::string after,
                         DecodePageToken(request.page_token(), "models", ""));
  std::string last;
  for (v1::Model& model : context_.models->List()) {
    std::string id = model.name().substr(model.name().find('/') + 1);
    if (id <= after) continue;
    if (reply->models_size() == limit) {
      reply->set_next_page_token(EncodePageToken(
          {.collection = "models", .filter = "", .after = last}));
      break;
    }
    *reply->add_models() = std::move(model);
    last = std::move(id);
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* ModelsService::GetModel(
    grpc::CallbackServerContext* call, const v1::GetModelRequest* request,
    v1::Model* reply) {
  return Answer(call, context_, "mneme.v1.Models/GetModel", request->name(),
                [&]() -> absl::Status {
                  MNEME_ASSIGN_OR_RETURN(
                      const std::string name,
                      ParseModelName(request->name(), "name"));
                  MNEME_ASSIGN_OR_RETURN(*reply, context_.models->Get(name));
                  return absl::OkStatus();
                });
}

grpc::ServerUnaryReactor* ModelsService::LoadModel(
    grpc::CallbackServerContext* call, const v1::LoadModelRequest* request,
    v1::Operation* reply) {
  return AnswerOnce(
      call, context_, "mneme.v1.Models/LoadModel", request->name(), *request,
      reply,
      [&](v1::Operation* out, const auto& done) { done(Load(*request, out)); });
}

absl::Status ModelsService::Load(const v1::LoadModelRequest& request,
                                 v1::Operation* reply) {
  MNEME_ASSIGN_OR_RETURN(const std::string name,
                         ParseModelName(request.name(), "name"));
  MNEME_ASSIGN_OR_RETURN(const v1::Model model, context_.models->Get(name));
  if (model.state() == v1::Model::LOADED ||
      model.state() == v1::Model::LOADING) {
    return absl::AlreadyExistsError(
        absl::StrCat("model ", name, " is loaded or being loaded"));
  }
  MNEME_ASSIGN_OR_RETURN(
      *reply, context_.operations->Start(
                  "mneme.v1.Models.LoadModel", request.name(),
                  [models = context_.models, name](
                      const std::function<bool()>& cancelled,
                      std::unique_ptr<google::protobuf::Message>& response)
                      -> absl::Status {
                    if (cancelled()) return absl::CancelledError("cancelled");
                    MNEME_RETURN_IF_ERROR(models->Load(name));
                    if (cancelled()) {
                      // Someone may have begun to use it; then it stays.
                      const absl::Status status = models->Unload(name, false);
                      if (status.ok()) return absl::CancelledError("cancelled");
                    }
                    MNEME_ASSIGN_OR_RETURN(v1::Model loaded, models->Get(name));
                    response = std::make_unique<v1::Model>(std::move(loaded));
                    return absl::OkStatus();
                  }));
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* ModelsService::UnloadModel(
    grpc::CallbackServerContext* call, const v1::UnloadModelRequest* request,
    v1::Model* reply) {
  return AnswerOnce(
      call, context_, "mneme.v1.Models/UnloadModel", request->name(), *request,
      reply,
      [&](v1::Model* out, const auto& done) { done(Unload(*request, out)); });
}

absl::Status ModelsService::Unload(const v1::UnloadModelRequest& request,
                                   v1::Model* reply) {
  MNEME_ASSIGN_OR_RETURN(const std::string name,
                         ParseModelName(request.name(), "name"));
  MNEME_RETURN_IF_ERROR(context_.models->Unload(name, request.force()));
  const absl::StatusOr<v1::Model> model = context_.models->Get(name);
  if (model.ok()) {
    *reply = *model;
  } else {  // it lay in a model root and is there no longer
    reply->set_name(request.name());
    reply->set_state(v1::Model::UNLOADED);
  }
  return absl::OkStatus();
}

}  // namespace mneme::server
