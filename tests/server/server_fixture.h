// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SERVER_SERVER_FIXTURE_H_
#define MNEME_TESTS_SERVER_SERVER_FIXTURE_H_

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <chrono>
#include <memory>
#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "mneme/v1/admin.grpc.pb.h"
#include "mneme/v1/memory.grpc.pb.h"
#include "mneme/v1/models.grpc.pb.h"
#include "mneme/v1/operations.grpc.pb.h"
#include "mneme/v1/sessions.grpc.pb.h"
#include "server/grpc_server.h"
#include "tests/server/fake_engine.h"

namespace mneme::server {

// The first detail of type `Detail`; its default if there is none.
template <typename Detail>
Detail DetailOf(const grpc::Status& status) {
  google::rpc::Status rich;
  rich.ParseFromString(status.error_details());
  Detail detail;
  for (const auto& any : rich.details()) {
    if (any.UnpackTo(&detail)) return detail;
  }
  return Detail();
}

inline std::string ReasonOf(const grpc::Status& status) {
  return DetailOf<google::rpc::ErrorInfo>(status).reason();
}

// The value of ErrorInfo's metadata.
inline std::string FactOf(const grpc::Status& status, const std::string& key) {
  const auto info = DetailOf<google::rpc::ErrorInfo>(status);
  const auto found = info.metadata().find(key);
  return found == info.metadata().end() ? "" : found->second;
}

// A client's call; a test that hangs ends with DEADLINE_EXCEEDED.
struct Call : grpc::ClientContext {
  Call() {
    set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  }
};

// A real server on a free port of this machine, over a fake engine with one
// model, "tiny", and one session, "alice".
class ServerFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    metrics_.AddModel(FakeEngine::MakeModel("tiny"));
    StartServer();
    MakeSession("alice");
  }

  // Another one, if there is one, over the same engine.
  void StartServer() {
    server_.reset();
    auto server = GrpcServer::Start({.listen = "127.0.0.1:0",
                                     .admin_listen = "127.0.0.1:0",
                                     .engine = &engine_,
                                     .metrics = &metrics_,
                                     .models = &catalog_,
                                     .version = "1",
                                     .settings = {{"threads", "1"}},
                                     .default_deadline = absl::Seconds(1)});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->address(),
                                   grpc::InsecureChannelCredentials());
    sessions_ = v1::Sessions::NewStub(channel_);
    memory_ = v1::Memory::NewStub(channel_);
    models_ = v1::Models::NewStub(channel_);
    operations_ = v1::Operations::NewStub(channel_);
    admin_channel_ = grpc::CreateChannel(server_->admin_address(),
                                         grpc::InsecureChannelCredentials());
    admin_ = v1::Admin::NewStub(admin_channel_);
  }

  void MakeSession(const std::string& id) {
    CreateSessionOptions options;
    options.id = id;
    options.model = "tiny";
    ASSERT_TRUE(engine_.CreateSession(options).ok());
  }

  std::string MetricsText() {
    return prometheus::TextSerializer().Serialize(
        metrics_.registry()->Collect());
  }

  FakeEngine engine_;
  Metrics metrics_{{.version = "1", .commit = "c", .backend = "cpu"}};
  ModelCatalog catalog_{{.engine = &engine_,
                         .metrics = &metrics_,
                         .directories = {{"tiny", "/tiny"}, {"big", "/big"}}}};
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Sessions::Stub> sessions_;
  std::unique_ptr<v1::Memory::Stub> memory_;
  std::unique_ptr<v1::Models::Stub> models_;
  std::unique_ptr<v1::Operations::Stub> operations_;
  std::shared_ptr<grpc::Channel> admin_channel_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

}  // namespace mneme::server

#endif  // MNEME_TESTS_SERVER_SERVER_FIXTURE_H_
