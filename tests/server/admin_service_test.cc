// SPDX-License-Identifier: Apache-2.0
#include <grpcpp/generic/generic_stub.h>

#include "tests/server/server_fixture.h"

namespace mneme::server {
namespace {

class AdminServiceTest : public ServerFixture {
 protected:
  // The code of an empty call of `method`, which takes and gives anything.
  static grpc::StatusCode CallEmpty(
      const std::shared_ptr<grpc::Channel>& channel,
      const std::string& method) {
    grpc::GenericStub stub(channel);
    Call call;
    grpc::CompletionQueue queue;
    grpc::Slice nothing;
    const grpc::ByteBuffer request(&nothing, 1);
    auto reader = stub.PrepareUnaryCall(&call, method, request, &queue);
    reader->StartCall();
    grpc::ByteBuffer reply;
    grpc::Status status;
    reader->Finish(&reply, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return status.error_code();
  }
};

TEST_F(AdminServiceTest, TheNodeTellsWhatItIs) {
  Call call;
  v1::Node node;
  ASSERT_TRUE(admin_->GetNode(&call, {}, &node).ok());
  EXPECT_EQ(node.state(), v1::Node::SERVING);
  EXPECT_EQ(node.version(), "1");
  EXPECT_EQ(node.address(), server_->address());
  EXPECT_EQ(node.models(0), "models/tiny");
  EXPECT_EQ(node.budget().weight_bytes(), 5000);
  EXPECT_EQ(node.budget().session_memory_bytes(), 4096);
  EXPECT_GT(node.budget().resident_bytes(), 0);
  EXPECT_EQ(node.sessions(), 2);
  EXPECT_EQ(node.budget().hot_sessions(), 1);
  EXPECT_EQ(node.budget().index_bytes(), 77);
  EXPECT_EQ(node.budget().constant_bytes(), (192 << 20) + 5);
  EXPECT_TRUE(node.has_start_time());
}

TEST_F(AdminServiceTest, ClientsDoNotReachIt) {
  EXPECT_EQ(CallEmpty(channel_, "/mneme.v1.Admin/GetNode"),
            grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(CallEmpty(admin_channel_, "/mneme.v1.Sessions/ListSessions"),
            grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(CallEmpty(admin_channel_, "/grpc.channelz.v1.Channelz/GetServers"),
            grpc::StatusCode::OK);
  EXPECT_EQ(CallEmpty(admin_channel_, "/grpc.health.v1.Health/Check"),
            grpc::StatusCode::OK);
}

TEST_F(AdminServiceTest, ABudgetBelowWhatIsInUseIsRefused) {
  v1::SetBudgetRequest request;
  v1::Budget budget;
  request.set_session_memory_bytes(1);
  Call low;
  EXPECT_EQ(admin_->SetBudget(&low, request, &budget).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  request.set_session_memory_bytes(9999);
  Call high;
  EXPECT_TRUE(admin_->SetBudget(&high, request, &budget).ok());
  EXPECT_EQ(budget.session_memory_used_bytes(), 1234);
}

TEST_F(AdminServiceTest, DrainEndsTheWorkAndLeavesTheListenersOpen) {
  Call call;
  v1::Operation operation;
  ASSERT_TRUE(admin_->Drain(&call, {}, &operation).ok());
  Call wait;
  v1::GetOperationRequest request;
  request.set_name(operation.name());
  request.mutable_wait()->set_seconds(10);
  auto operations = v1::Operations::NewStub(admin_channel_);
  ASSERT_TRUE(operations->GetOperation(&wait, request, &operation).ok());
  ASSERT_TRUE(operation.done());
  v1::Node node;
  ASSERT_TRUE(operation.response().UnpackTo(&node));
  EXPECT_EQ(node.state(), v1::Node::DRAINED);
  Call after;
  ASSERT_TRUE(admin_->GetNode(&after, {}, &node).ok());
  EXPECT_EQ(server_->Drain(absl::Now() + absl::Seconds(5)), 0);
}

TEST_F(AdminServiceTest, OwnersAndDiagnosticsAreThisNodes) {
  engine_.SetActivity("alice", SessionActivity::kGenerating);
  Call call;
  v1::ListOwnersResponse owners;
  ASSERT_TRUE(admin_->ListOwners(&call, {}, &owners).ok());
  EXPECT_EQ(owners.owners(0).session(), "sessions/alice");
  EXPECT_EQ(owners.owners(0).address(), server_->address());
  Call other;
  v1::ListOwnersRequest request;
  request.set_node("nodes/elsewhere");
  ASSERT_TRUE(admin_->ListOwners(&other, request, &owners).ok());
  EXPECT_EQ(owners.owners_size(), 0);

  Call diagnose;
  v1::Diagnostics diagnostics;
  ASSERT_TRUE(admin_->GetDiagnostics(&diagnose, {}, &diagnostics).ok());
  EXPECT_EQ(diagnostics.settings().at("threads"), "1");
  EXPECT_EQ(diagnostics.tasks(0).kind(), "generate");
  EXPECT_EQ(diagnostics.tasks(0).session(), "sessions/alice");
}

}  // namespace
}  // namespace mneme::server
