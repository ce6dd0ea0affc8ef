// SPDX-License-Identifier: Apache-2.0
#include "server/sessions_service.h"

#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "server/answer.h"
#include "server/convert.h"
#include "server/names.h"
#include "server/session_filter.h"

namespace mneme::server {
namespace {

// What a page may take, so that it stays below gRPC's usual 4 MiB.
constexpr size_t kMaxPageBytes = 2 << 20;

// The node's only model, for a session that names none.
absl::StatusOr<std::string> OnlyModel(const Engine& engine) {
  const std::vector<ModelInfo> models = engine.ListModels();
  if (models.size() == 1) return models[0].name;
  return BadField("session.model",
                  absl::StrCat("found none, wanted one of the ", models.size(),
                               " models that are served"));
}

absl::Status CheckEtag(const std::string& etag, const SessionInfo& session) {
  const std::string present = EtagOf(session);
  if (etag == present) return absl::OkStatus();
  return WithReason(
      absl::AbortedError(absl::StrCat("etag: the session's is ", present)),
      {.reason = "ETAG_MISMATCH", .metadata = {{"etag", present}}});
}

}  // namespace

grpc::ServerUnaryReactor* SessionsService::CreateSession(
    grpc::CallbackServerContext* call, const v1::CreateSessionRequest* request,
    v1::Session* reply) {
  // The create itself can miss nothing but the model.
  return AnswerOnce(
      call, context_, "mneme.v1.Sessions/CreateSession",
      request->session().model(), *request, reply,
      [&](v1::Session* out, const auto& done) { done(Create(*request, out)); });
}

absl::Status SessionsService::Create(const v1::CreateSessionRequest& request,
                                     v1::Session* reply) {
  MNEME_ASSIGN_OR_RETURN(CreateSessionOptions options, FromProto(request));
  if (options.model.empty()) {
    MNEME_ASSIGN_OR_RETURN(options.model, OnlyModel(*context_.engine));
  }
  MNEME_ASSIGN_OR_RETURN(const SessionInfo session,
                         context_.engine->CreateSession(options));
  *reply = ToProto(session);
  return absl::OkStatus();
}

// With digests the engine answers later, from a thread of its own.
grpc::ServerUnaryReactor* SessionsService::GetSession(
    grpc::CallbackServerContext* call, const v1::GetSessionRequest* request,
    v1::Session* reply) {
  constexpr char kMethod[] = "mneme.v1.Sessions/GetSession";
  const std::string& name = request->name();
  const absl::StatusOr<std::string> id = ParseSessionName(name, "name");
  if (!id.ok()) {
    return Answer(call, context_, kMethod, name, [&] { return id.status(); });
  }
  if (!v1::SessionView_IsValid(request->view())) {
    return Answer(call, context_, kMethod, name, [&] {
      return BadField(
          "view", absl::StrCat("found the unknown value ", request->view()));
    });
  }
  if (request->view() == v1::SESSION_VIEW_BASIC) {
    return Answer(call, context_, kMethod, name, [&]() -> absl::Status {
      MNEME_ASSIGN_OR_RETURN(const SessionInfo session,
                             context_.engine->GetSession(*id));
      *reply = ToProto(session);
      return absl::OkStatus();
    });
  }
  auto answer =
      LateAnswer<v1::Session>::Make(call, context_, kMethod, name, reply);
  grpc::ServerUnaryReactor* const reactor = answer->reactor();
  answer->ApplyDefaultDeadline();
  context_.engine->DescribeSession(
      *id, [answer](const absl::StatusOr<SessionInfo>& session) {
        if (session.ok()) *answer->reply() = ToProto(*session);
        answer->End(session.status());
      });
  return reactor;
}

grpc::ServerUnaryReactor* SessionsService::ListSessions(
    grpc::CallbackServerContext* call, const v1::ListSessionsRequest* request,
    v1::ListSessionsResponse* reply) {
  return Answer(call, context_, "mneme.v1.Sessions/ListSessions", "",
                [&] { return List(*request, reply); });
}

absl::Status SessionsService::List(const v1::ListSessionsRequest& request,
                                   v1::ListSessionsResponse* reply) {
  MNEME_ASSIGN_OR_RETURN(const SessionFilter filter,
                         ParseSessionFilter(request.filter()));
  MNEME_ASSIGN_OR_RETURN(const int64_t limit, PageSize(request.page_size()));
  MNEME_ASSIGN_OR_RETURN(
      const std::string after,
      DecodePageToken(request.page_token(), "sessions", request.filter()));
  const std::vector<SessionInfo> sessions =
      context_.engine->ListSessions(after, limit + 1, filter);
  size_t page_bytes = 0;
  for (const SessionInfo& session : sessions) {
    if (reply->sessions_size() == limit || page_bytes > kMaxPageBytes) {
      const SessionInfo& last = sessions[reply->sessions_size() - 1];
      reply->set_next_page_token(EncodePageToken({.collection = "sessions",
                                                  .filter = request.filter(),
                                                  .after = last.id}));
      break;
    }
    *reply->add_sessions() = ToProto(session);
    page_bytes += reply->sessions().rbegin()->ByteSizeLong();
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* SessionsService::DeleteSession(
    grpc::CallbackServerContext* call, const v1::DeleteSessionRequest* request,
    google::protobuf::Empty* reply) {
  return AnswerOnce(call, context_, "mneme.v1.Sessions/DeleteSession",
                    request->name(), *request, reply,
                    [&](google::protobuf::Empty* /*out*/, const auto& done) {
                      done(Delete(*request));
                    });
}

absl::Status SessionsService::Delete(const v1::DeleteSessionRequest& request) {
  MNEME_ASSIGN_OR_RETURN(const std::string id,
                         ParseSessionName(request.name(), "name"));
  std::string uid;  // any
  if (!request.etag().empty()) {
    MNEME_ASSIGN_OR_RETURN(const SessionInfo session,
                           context_.engine->GetSession(id));
    MNEME_RETURN_IF_ERROR(CheckEtag(request.etag(), session));
    uid = session.uid;
  }
  return context_.engine->DeleteSession(id, uid);
}

grpc::ServerUnaryReactor* SessionsService::UpdateSession(
    grpc::CallbackServerContext* call, const v1::UpdateSessionRequest* request,
    v1::Session* reply) {
  return AnswerOnce(
      call, context_, "mneme.v1.Sessions/UpdateSession",
      request->session().name(), *request, reply,
      [&](v1::Session* out, const auto& done) { done(Update(*request, out)); });
}

absl::Status SessionsService::Update(const v1::UpdateSessionRequest& request,
                                     v1::Session* reply) {
  MNEME_ASSIGN_OR_RETURN(UpdateSessionOptions options, FromProto(request));
  if (!request.session().etag().empty()) {
    MNEME_ASSIGN_OR_RETURN(const SessionInfo session,
                           context_.engine->GetSession(options.session));
    MNEME_RETURN_IF_ERROR(CheckEtag(request.session().etag(), session));
    options.revision = session.revision;
  }
  MNEME_ASSIGN_OR_RETURN(const SessionInfo session,
                         context_.engine->UpdateSession(options));
  *reply = ToProto(session);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* SessionsService::ForkSession(
    grpc::CallbackServerContext* call,
    const v1::ForkSessionRequest* /*request*/, v1::Session* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Sessions/ForkSession");
}

grpc::ServerUnaryReactor* SessionsService::RollbackSession(
    grpc::CallbackServerContext* call,
    const v1::RollbackSessionRequest* /*request*/, v1::Session* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Sessions/RollbackSession");
}

grpc::ServerUnaryReactor* SessionsService::ResetSession(
    grpc::CallbackServerContext* call, const v1::ResetSessionRequest* request,
    v1::Session* reply) {
  return AnswerOnce(
      call, context_, "mneme.v1.Sessions/ResetSession", request->name(),
      *request, reply, [&](v1::Session* out, const RequestIdTable::Done& done) {
        const absl::StatusOr<std::string> id =
            ParseSessionName(request->name(), "name");
        if (!id.ok()) return done(id.status());
        context_.engine->ResetSession(
            *id, request->takeover(),
            [out, done](const absl::StatusOr<SessionInfo>& session) {
              if (session.ok()) *out = ToProto(*session);
              done(session.status());
            });
      });
}

grpc::ServerUnaryReactor* SessionsService::CreateSnapshot(
    grpc::CallbackServerContext* call,
    const v1::CreateSnapshotRequest* /*request*/, v1::Snapshot* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Sessions/CreateSnapshot");
}

grpc::ServerUnaryReactor* SessionsService::GetSnapshot(
    grpc::CallbackServerContext* call,
    const v1::GetSnapshotRequest* /*request*/, v1::Snapshot* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Sessions/GetSnapshot");
}

grpc::ServerUnaryReactor* SessionsService::ListSnapshots(
    grpc::CallbackServerContext* call,
    const v1::ListSnapshotsRequest* /*request*/,
    v1::ListSnapshotsResponse* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Sessions/ListSnapshots");
}

grpc::ServerUnaryReactor* SessionsService::DeleteSnapshot(
    grpc::CallbackServerContext* call,
    const v1::DeleteSnapshotRequest* /*request*/,
    google::protobuf::Empty* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Sessions/DeleteSnapshot");
}

grpc::ServerWriteReactor<v1::ExportSessionResponse>*
SessionsService::ExportSession(grpc::CallbackServerContext* /*call*/,
                               const v1::ExportSessionRequest* /*request*/) {
  return RefuseStream<grpc::ServerWriteReactor<v1::ExportSessionResponse>>(
      context_, "mneme.v1.Sessions/ExportSession");
}

grpc::ServerReadReactor<v1::ImportSessionRequest>*
SessionsService::ImportSession(grpc::CallbackServerContext* /*call*/,
                               v1::Session* /*reply*/) {
  return RefuseStream<grpc::ServerReadReactor<v1::ImportSessionRequest>>(
      context_, "mneme.v1.Sessions/ImportSession");
}

grpc::ServerWriteReactor<v1::SessionEvent>* SessionsService::WatchSession(
    grpc::CallbackServerContext* /*call*/,
    const v1::WatchSessionRequest* /*request*/) {
  return RefuseStream<grpc::ServerWriteReactor<v1::SessionEvent>>(
      context_, "mneme.v1.Sessions/WatchSession");
}

}  // namespace mneme::server
