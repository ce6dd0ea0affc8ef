// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_MODELS_SERVICE_H_
#define MNEME_SERVER_MODELS_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "mneme/v1/models.grpc.pb.h"
#include "server/service_context.h"

namespace mneme::server {

// What models.proto says.
class ModelsService final : public v1::Models::CallbackService {
 public:
  explicit ModelsService(const ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* call,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* reply) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* call,
                                     const v1::GetModelRequest* request,
                                     v1::Model* reply) override;

  grpc::ServerUnaryReactor* LoadModel(grpc::CallbackServerContext* call,
                                      const v1::LoadModelRequest* request,
                                      v1::Operation* reply) override;
  grpc::ServerUnaryReactor* UnloadModel(grpc::CallbackServerContext* call,
                                        const v1::UnloadModelRequest* request,
                                        v1::Model* reply) override;

 private:
  absl::Status List(const v1::ListModelsRequest& request,
                    v1::ListModelsResponse* reply);
  absl::Status Load(const v1::LoadModelRequest& request, v1::Operation* reply);
  absl::Status Unload(const v1::UnloadModelRequest& request, v1::Model* reply);

  const ServiceContext context_;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_MODELS_SERVICE_H_
