// SPDX-License-Identifier: Apache-2.0
#include "server/models_service.h"

#include <string>
#include <vector>

#include "engine/base/status_macros.h"
#include "server/answer.h"
#include "server/convert.h"
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
  for (const ModelInfo& model : context_.engine->ListModels()) {
    if (model.name <= after) continue;
    if (reply->models_size() == limit) {
      reply->set_next_page_token(EncodePageToken(
          {.collection = "models", .filter = "", .after = last}));
      break;
    }
    *reply->add_models() = ToProto(model);
    last = model.name;
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
                  MNEME_ASSIGN_OR_RETURN(const ModelInfo model,
                                         context_.engine->GetModel(name));
                  *reply = ToProto(model);
                  return absl::OkStatus();
                });
}

grpc::ServerUnaryReactor* ModelsService::LoadModel(
    grpc::CallbackServerContext* call, const v1::LoadModelRequest* /*request*/,
    v1::Operation* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Models/LoadModel");
}

grpc::ServerUnaryReactor* ModelsService::UnloadModel(
    grpc::CallbackServerContext* call,
    const v1::UnloadModelRequest* /*request*/, v1::Model* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Models/UnloadModel");
}

}  // namespace mneme::server
