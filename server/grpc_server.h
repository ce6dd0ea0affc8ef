// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_GRPC_SERVER_H_
#define MNEME_SERVER_GRPC_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/memory_service.h"
#include "server/metrics.h"
#include "server/models_service.h"
#include "server/request_id_table.h"
#include "server/sessions_service.h"
#include "server/stream_pump.h"

namespace mneme::server {

// The listener with its services, health and reflection.
class GrpcServer {
 public:
  struct Options {
    std::string listen;          // HOST:PORT, port 0 for any; or unix:PATH
    Engine* engine = nullptr;    // outlives the server
    Metrics* metrics = nullptr;  // likewise
    const Clock* clock = Clock::Real();
  };

  // UNAVAILABLE if it cannot listen there.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const Options& options);

  // Cuts off what still runs.
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  // Where it listens, with the port that was bound.
  const std::string& address() const { return address_; }

  // Reports not serving, refuses new work, ends append streams once what they
  // took is absorbed and acknowledged, and lets generations and scores go on
  // until `deadline`. No call runs when it returns. Returns how many streams
  // were cut off. Called once.
  int64_t Drain(absl::Time deadline);

 private:
  explicit GrpcServer(const Options& options);
  absl::Status Listen();
  void SetServing(bool serving);

  const Options options_;
  std::string address_;
  StreamPump pump_;
  RequestIdTable request_ids_;
  SessionsService sessions_;
  MemoryService memory_;
  ModelsService models_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_GRPC_SERVER_H_
