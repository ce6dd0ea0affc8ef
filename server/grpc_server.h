// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_GRPC_SERVER_H_
#define MNEME_SERVER_GRPC_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/admin_service.h"
#include "server/memory_service.h"
#include "server/metrics.h"
#include "server/model_catalog.h"
#include "server/models_service.h"
#include "server/node.h"
#include "server/operation_table.h"
#include "server/operations_service.h"
#include "server/request_id_table.h"
#include "server/sessions_service.h"
#include "server/stream_pump.h"

namespace mneme::server {

// The listener for clients, with its services, health and reflection; and one
// for operators, if wanted, with the admin service, operations, health,
// reflection and channelz. gRPC serves channelz on every server that is built
// after it was asked for once, so a second GrpcServer in the process has it on
// both listeners.
class GrpcServer {
 public:
  struct Options {
    std::string listen;              // HOST:PORT, port 0 for any; or unix:PATH
    std::string admin_listen;        // likewise; empty: none
    Engine* engine = nullptr;        // outlives the server
    Metrics* metrics = nullptr;      // likewise
    ModelCatalog* models = nullptr;  // likewise
    std::string version;             // of the program
    std::map<std::string, std::string> settings;  // in force; to be shown
    const Clock* clock = Clock::Real();
    // Of a unary call that waits and whose client set no deadline.
    absl::Duration default_deadline = absl::Seconds(10);
  };

  // UNAVAILABLE, saying why, if it cannot listen there.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const Options& options);

  // Cuts off what still runs.
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  // Where it listens, with the port that was bound.
  const std::string& address() const { return node_.address; }
  // Empty without one.
  const std::string& admin_address() const { return admin_address_; }

  // Reports not serving, refuses new work, ends append streams once what they
  // took is absorbed and acknowledged, and lets generations and scores go on
  // until `deadline`. No call runs when it returns. Returns how many streams
  // were cut off. Called once.
  int64_t Drain(absl::Time deadline);

 private:
  explicit GrpcServer(const Options& options);
  absl::Status Listen();
  absl::Status ListenForAdmins();
  void SetServing(bool serving);
  // What Drain does before it closes the listeners. May be called again.
  int64_t EndWork(absl::Time deadline);

  const Options options_;
  NodeContext node_;
  std::string admin_address_;
  StreamPump pump_;
  const std::shared_ptr<RequestIdTable> request_ids_;
  OperationTable operations_table_;
  const ServiceContext context_;
  SessionsService sessions_;
  MemoryService memory_;
  ModelsService models_;
  OperationsService operations_;
  AdminService admin_;
  OperationsService admin_operations_;  // gRPC wants one for each server
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::Server> admin_server_;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_GRPC_SERVER_H_
