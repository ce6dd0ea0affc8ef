// SPDX-License-Identifier: Apache-2.0
#include "server/grpc_server.h"

#include <grpcpp/ext/channelz_service_plugin.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/resource_id.h"
#include "engine/base/status_macros.h"
#include "server/listen_address.h"

namespace mneme::server {
namespace {

constexpr int kMaxMessageBytes = 4 << 20;
// What gRPC may hold in buffers for all connections together.
constexpr int kMaxStreamsPerConnection = 1024;
// Clients may ping every 10 s; a second of grace for a timer that was early.
constexpr int kMinPingIntervalMs = 9000;
constexpr int kKeepaliveTimeMs = 60000;
constexpr int kKeepaliveTimeoutMs = 20000;
// For last messages to reach their clients.
constexpr absl::Duration kFlushTime = absl::Seconds(1);

// What this node is called, in resource names.
std::string NodeId() {
  std::string name(256, '\0');
  if (gethostname(name.data(), name.size() - 1) != 0) return "local";
  name.resize(name.find('\0'));
  return IsResourceId(name) ? name : "local";
}

// Starts a server with the limits that all share. `address` becomes where it
// listens, with the port that was bound.
absl::StatusOr<std::unique_ptr<grpc::Server>> Build(
    const std::string& listen, grpc::ServerBuilder& builder,
    std::string* address) {
  MNEME_RETURN_IF_ERROR(CheckCanListen(listen));
  int port = 0;
  builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
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
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", listen));
  }
  *address = listen;
  if (!absl::StartsWith(listen, "unix:")) {
    *address = absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
  }
  return server;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const Options& options) {
  auto server = std::unique_ptr<GrpcServer>(new GrpcServer(options));
  MNEME_RETURN_IF_ERROR(server->Listen());
  return server;
}

GrpcServer::GrpcServer(const Options& options)
    : options_(options),
      request_ids_(std::make_shared<RequestIdTable>(
          RequestIdTable::Options{.clock = options.clock})),
      operations_table_(options.clock),
      context_{.engine = options.engine,
               .metrics = options.metrics,
               .pump = &pump_,
               .request_ids = request_ids_.get(),
               .operations = &operations_table_,
               .models = options.models,
               .clock = options.clock,
               .default_deadline = options.default_deadline},
      sessions_(context_),
      memory_(context_),
      models_(context_),
      operations_(context_),
      admin_(context_, &node_),
      admin_operations_(context_) {
  request_ids_->Restore(options.engine->TakeAnsweredRequests());
  node_.name = NodeId();
  node_.version = options.version;
  node_.start_time = options.clock->Now();
  node_.settings = options.settings;
  node_.drain = [this](absl::Time deadline) { EndWork(deadline); };
}

absl::Status GrpcServer::Listen() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  grpc::ServerBuilder builder;
  builder.RegisterService(&sessions_);
  builder.RegisterService(&memory_);
  builder.RegisterService(&models_);
  builder.RegisterService(&operations_);
  builder.SetResourceQuota(
      grpc::ResourceQuota("mnemed").Resize(kTransportBytes));
  MNEME_ASSIGN_OR_RETURN(server_,
                         Build(options_.listen, builder, &node_.address));
  if (!options_.admin_listen.empty()) {
    MNEME_RETURN_IF_ERROR(ListenForAdmins());
  }
  SetServing(true);
  return absl::OkStatus();
}

absl::Status GrpcServer::ListenForAdmins() {
  grpc::channelz::experimental::InitChannelzService();
  grpc::ServerBuilder builder;
  builder.RegisterService(&admin_);
  builder.RegisterService(&admin_operations_);
  MNEME_ASSIGN_OR_RETURN(
      admin_server_, Build(options_.admin_listen, builder, &admin_address_));
  return absl::OkStatus();
}

void GrpcServer::SetServing(bool serving) {
  const auto set = [serving](grpc::Server* server, const auto&... services) {
    if (server == nullptr) return;
    grpc::HealthCheckServiceInterface* const health =
        server->GetHealthCheckService();
    (health->SetServingStatus(services, serving), ...);
  };
  set(server_.get(), "", v1::Sessions::service_full_name(),
      v1::Memory::service_full_name(), v1::Models::service_full_name(),
      v1::Operations::service_full_name());
  set(admin_server_.get(), "", v1::Admin::service_full_name(),
      v1::Operations::service_full_name());
}

GrpcServer::~GrpcServer() {
  operations_table_.StopWaiting();
  const auto now = std::chrono::system_clock::now();
  if (server_ != nullptr) server_->Shutdown(now);
  if (admin_server_ != nullptr) admin_server_->Shutdown(now);
  operations_table_.Finish();
}

int64_t GrpcServer::EndWork(absl::Time deadline) {
  node_.state = NodeContext::State::kDraining;
  SetServing(false);
  pump_.Drain();
  const int64_t cut_off = options_.engine->Drain(deadline);
  // The engine is done with the streams; their clients may still be reading.
  pump_.AwaitEmpty(
      std::max(deadline - options_.clock->Now(), absl::ZeroDuration()) +
      kFlushTime);
  node_.state = NodeContext::State::kDrained;
  return cut_off;
}

int64_t GrpcServer::Drain(absl::Time deadline) {
  const int64_t cut_off = EndWork(deadline);
  // Every call has its answer soon; the shutdown waits for that.
  options_.engine->Close();
  operations_table_.StopWaiting();
  // Health watches and idle connections never end by themselves.
  const auto flushed =
      std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kFlushTime);
  server_->Shutdown(flushed);
  if (admin_server_ != nullptr) admin_server_->Shutdown(flushed);
  return cut_off;
}

}  // namespace mneme::server
