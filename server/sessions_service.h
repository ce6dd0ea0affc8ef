// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_SESSIONS_SERVICE_H_
#define MNEME_SERVER_SESSIONS_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mneme/v1/sessions.grpc.pb.h"
#include "server/service_context.h"

namespace mneme::server {

// What sessions.proto says; each stream is a reactor of its own.
class SessionsService final : public v1::Sessions::CallbackService {
 public:
  explicit SessionsService(const ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* CreateSession(
      grpc::CallbackServerContext* call,
      const v1::CreateSessionRequest* request, v1::Session* reply) override;
  grpc::ServerUnaryReactor* GetSession(grpc::CallbackServerContext* call,
                                       const v1::GetSessionRequest* request,
                                       v1::Session* reply) override;
  grpc::ServerUnaryReactor* ListSessions(
      grpc::CallbackServerContext* call, const v1::ListSessionsRequest* request,
      v1::ListSessionsResponse* reply) override;
  grpc::ServerUnaryReactor* DeleteSession(
      grpc::CallbackServerContext* call,
      const v1::DeleteSessionRequest* request,
      google::protobuf::Empty* reply) override;
  grpc::ServerUnaryReactor* UpdateSession(
      grpc::CallbackServerContext* call,
      const v1::UpdateSessionRequest* request, v1::Session* reply) override;
  grpc::ServerUnaryReactor* ForkSession(grpc::CallbackServerContext* call,
                                        const v1::ForkSessionRequest* request,
                                        v1::Session* reply) override;
  grpc::ServerUnaryReactor* RollbackSession(
      grpc::CallbackServerContext* call,
      const v1::RollbackSessionRequest* request, v1::Session* reply) override;
  grpc::ServerUnaryReactor* ResetSession(grpc::CallbackServerContext* call,
                                         const v1::ResetSessionRequest* request,
                                         v1::Session* reply) override;
  grpc::ServerUnaryReactor* CreateSnapshot(
      grpc::CallbackServerContext* call,
      const v1::CreateSnapshotRequest* request, v1::Snapshot* reply) override;
  grpc::ServerUnaryReactor* GetSnapshot(grpc::CallbackServerContext* call,
                                        const v1::GetSnapshotRequest* request,
                                        v1::Snapshot* reply) override;
  grpc::ServerUnaryReactor* ListSnapshots(
      grpc::CallbackServerContext* call,
      const v1::ListSnapshotsRequest* request,
      v1::ListSnapshotsResponse* reply) override;
  grpc::ServerUnaryReactor* DeleteSnapshot(
      grpc::CallbackServerContext* call,
      const v1::DeleteSnapshotRequest* request,
      google::protobuf::Empty* reply) override;
  grpc::ServerWriteReactor<v1::ExportSessionResponse>* ExportSession(
      grpc::CallbackServerContext* call,
      const v1::ExportSessionRequest* request) override;
  grpc::ServerReadReactor<v1::ImportSessionRequest>* ImportSession(
      grpc::CallbackServerContext* call, v1::Session* reply) override;
  grpc::ServerWriteReactor<v1::SessionEvent>* WatchSession(
      grpc::CallbackServerContext* call,
      const v1::WatchSessionRequest* request) override;
  grpc::ServerUnaryReactor* VerifySession(
      grpc::CallbackServerContext* call,
      const v1::VerifySessionRequest* request,
      v1::VerifySessionResponse* reply) override;

 private:
  absl::StatusOr<CreateSessionOptions> ToCreate(
      const v1::CreateSessionRequest& request) const;
  absl::StatusOr<UpdateSessionOptions> ToUpdate(
      const v1::UpdateSessionRequest& request) const;
  absl::StatusOr<DeleteOptions> ToDelete(
      const v1::DeleteSessionRequest& request) const;
  absl::Status List(const v1::ListSessionsRequest& request,
                    v1::ListSessionsResponse* reply) const;
  absl::Status ListKept(const v1::ListSnapshotsRequest& request,
                        v1::ListSnapshotsResponse* reply) const;
  absl::Status GetKept(const v1::GetSnapshotRequest& request,
                       v1::Snapshot* reply) const;

  const ServiceContext context_;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_SESSIONS_SERVICE_H_
