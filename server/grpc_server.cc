// SPDX-License-Identifier: Apache-2.0
#include "server/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <chrono>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mneme::server {
namespace {

constexpr int kMaxMessageBytes = 4 << 20;
// What gRPC may hold in buffers for all connections together.
constexpr size_t kTransportBytes = 128 << 20;
constexpr int kMaxStreamsPerConnection = 1024;
// Clients may ping every 10 s; a second of grace for a timer that was early.
constexpr int kMinPingIntervalMs = 9000;
constexpr int kKeepaliveTimeMs = 60000;
constexpr int kKeepaliveTimeoutMs = 20000;
// For last messages to reach their clients.
constexpr absl::Duration kFlushTime = absl::Seconds(1);

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const Options& options) {
  auto server = std::unique_ptr<GrpcServer>(new GrpcServer(options));
  MNEME_RETURN_IF_ERROR(server->Listen());
  return server;
}

GrpcServer::GrpcServer(const Options& options)
    : options_(options),
      request_ids_({.clock = options.clock}),
      sessions_({.engine = options.engine,
                 .metrics = options.metrics,
                 .pump = &pump_,
                 .request_ids = &request_ids_,
                 .clock = options.clock}),
      memory_({.engine = options.engine,
               .metrics = options.metrics,
               .pump = &pump_,
               .request_ids = &request_ids_,
               .clock = options.clock}),
      models_({.engine = options.engine,
               .metrics = options.metrics,
               .pump = &pump_,
               .request_ids = &request_ids_,
               .clock = options.clock}) {}

absl::Status GrpcServer::Listen() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(&sessions_);
  builder.RegisterService(&memory_);
  builder.RegisterService(&models_);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetResourceQuota(
      grpc::ResourceQuota("mnemed").Resize(kTransportBytes));
  // Two daemons on one port would take each other's calls by chance.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             kKeepaliveTimeoutMs);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options_.listen));
  }
  address_ = options_.listen;
  if (!absl::StartsWith(address_, "unix:")) {
    address_ = absl::StrCat(address_.substr(0, address_.rfind(':')), ":", port);
  }
  SetServing(true);
  return absl::OkStatus();
}

void GrpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* const health =
      server_->GetHealthCheckService();
  for (const char* service :
       {"", v1::Sessions::service_full_name(), v1::Memory::service_full_name(),
        v1::Models::service_full_name()}) {
    health->SetServingStatus(service, serving);
  }
}

GrpcServer::~GrpcServer() {
  if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
}

int64_t GrpcServer::Drain(absl::Time deadline) {
  SetServing(false);
  pump_.Drain();
  const int64_t cut_off = options_.engine->Drain(deadline);
  // The engine is done with the streams; their clients may still be reading.
  // Health watches and idle connections never end by themselves.
  pump_.AwaitEmpty(
      std::max(deadline - options_.clock->Now(), absl::ZeroDuration()) +
      kFlushTime);
  server_->Shutdown(std::chrono::system_clock::now() +
                    absl::ToChronoMilliseconds(kFlushTime));
  return cut_off;
}

}  // namespace mneme::server
