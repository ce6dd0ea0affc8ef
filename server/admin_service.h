// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_ADMIN_SERVICE_H_
#define MNEME_SERVER_ADMIN_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "mneme/v1/admin.grpc.pb.h"
#include "server/node.h"
#include "server/service_context.h"

namespace mneme::server {

// What admin.proto says, of a node that is alone.
class AdminService final : public v1::Admin::CallbackService {
 public:
  // `node` outlives the service.
  AdminService(const ServiceContext& context, NodeContext* node)
      : context_(context), node_(node) {}

  grpc::ServerUnaryReactor* GetNode(grpc::CallbackServerContext* call,
                                    const v1::GetNodeRequest* request,
                                    v1::Node* reply) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* call,
                                  const v1::DrainRequest* request,
                                  v1::Operation* reply) override;
  grpc::ServerUnaryReactor* ListOwners(grpc::CallbackServerContext* call,
                                       const v1::ListOwnersRequest* request,
                                       v1::ListOwnersResponse* reply) override;
  grpc::ServerUnaryReactor* SetBudget(grpc::CallbackServerContext* call,
                                      const v1::SetBudgetRequest* request,
                                      v1::Budget* reply) override;
  grpc::ServerUnaryReactor* GetDiagnostics(
      grpc::CallbackServerContext* call,
      const v1::GetDiagnosticsRequest* request,
      v1::Diagnostics* reply) override;

 private:
  v1::Node Describe() const;
  v1::Budget DescribeBudget() const;
  absl::Status StartDrain(const v1::DrainRequest& request,
                          v1::Operation* reply);
  absl::Status Owners(const v1::ListOwnersRequest& request,
                      v1::ListOwnersResponse* reply);
  absl::Status Diagnose(const v1::GetDiagnosticsRequest& request,
                        v1::Diagnostics* reply);

  const ServiceContext context_;
  NodeContext* const node_;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_ADMIN_SERVICE_H_
