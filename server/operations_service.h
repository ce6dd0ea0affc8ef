// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_OPERATIONS_SERVICE_H_
#define MNEME_SERVER_OPERATIONS_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "mneme/v1/operations.grpc.pb.h"
#include "server/service_context.h"

namespace mneme::server {

// What operations.proto says.
class OperationsService final : public v1::Operations::CallbackService {
 public:
  explicit OperationsService(const ServiceContext& context)
      : context_(context) {}

  grpc::ServerUnaryReactor* GetOperation(grpc::CallbackServerContext* call,
                                         const v1::GetOperationRequest* request,
                                         v1::Operation* reply) override;
  grpc::ServerUnaryReactor* ListOperations(
      grpc::CallbackServerContext* call,
      const v1::ListOperationsRequest* request,
      v1::ListOperationsResponse* reply) override;
  grpc::ServerUnaryReactor* CancelOperation(
      grpc::CallbackServerContext* call,
      const v1::CancelOperationRequest* request, v1::Operation* reply) override;

 private:
  absl::Status List(const v1::ListOperationsRequest& request,
                    v1::ListOperationsResponse* reply);

  const ServiceContext context_;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_OPERATIONS_SERVICE_H_
