// SPDX-License-Identifier: Apache-2.0
#include "server/sessions_service.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "server/answer.h"
#include "server/convert.h"
#include "server/export_reactor.h"
#include "server/import_reactor.h"
#include "server/names.h"
#include "server/request_tag.h"
#include "server/session_filter.h"
#include "server/watch_reactor.h"

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

// What puts an outcome into `reply`, which lives until `done` is called.
template <typename Outcome, typename Reply>
Engine::Done<Outcome> Into(Reply* reply, const RequestIdTable::Done& done) {
  return [reply, done](const absl::StatusOr<Outcome>& outcome) {
    if (outcome.ok()) *reply = ToProto(*outcome);
    done(SessionExists(outcome.status()));
  };
}

// What tells of an outcome, with nothing else to say.
template <typename Outcome>
Engine::Done<Outcome> Silent(const RequestIdTable::Done& done) {
  return [done](const absl::StatusOr<Outcome>& outcome) {
    done(outcome.status());
  };
}

// Where the next page of snapshots begins: behind those of lower offsets, and
// so many of this one. Names come and go.
std::string PlaceBehind(const SnapshotInfo& last,
                        const std::vector<SnapshotInfo>& snapshots) {
  int64_t same = 0;
  for (const SnapshotInfo& snapshot : snapshots) {
    if (snapshot.offset == last.offset) ++same;
    if (snapshot.name == last.name) break;
  }
  return absl::StrCat(last.offset, "-", same);
}
size_t FindPlace(const std::string& place,
                 const std::vector<SnapshotInfo>& snapshots) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(place, absl::MaxSplits('-', 1));
  int64_t offset = 0;
  int64_t same = 0;
  if (!absl::SimpleAtoi(parts.first, &offset) ||
      !absl::SimpleAtoi(parts.second, &same)) {
    return 0;
  }
  size_t at = 0;
  while (at < snapshots.size() && snapshots[at].offset < offset) ++at;
  for (; same > 0 && at < snapshots.size(); --same) {
    if (snapshots[at].offset != offset) break;
    ++at;
  }
  return at;
}

}  // namespace

grpc::ServerUnaryReactor* SessionsService::CreateSession(
    grpc::CallbackServerContext* call, const v1::CreateSessionRequest* request,
    v1::Session* reply) {
  constexpr char kMethod[] = "mneme.v1.Sessions/CreateSession";
  // The create itself can miss nothing else.
  const std::string& resource = request->source_snapshot().empty()
                                    ? request->session().model()
                                    : request->source_snapshot();
  return AnswerOnce(
      call, context_, kMethod, resource, *request, reply,
      [&](v1::Session* out, const RequestIdTable::Done& done) {
        absl::StatusOr<CreateSessionOptions> options = ToCreate(*request);
        if (!options.ok()) return done(options.status());
        options->request = TagOf<SessionInfo>(kMethod, *request);
        context_.engine->CreateSession(*options, Into<SessionInfo>(out, done));
      });
}

absl::StatusOr<CreateSessionOptions> SessionsService::ToCreate(
    const v1::CreateSessionRequest& request) const {
  MNEME_ASSIGN_OR_RETURN(CreateSessionOptions options, FromProto(request));
  if (!options.model.empty()) return options;
  if (options.source_session.empty()) {
    MNEME_ASSIGN_OR_RETURN(options.model, OnlyModel(*context_.engine));
  } else {
    MNEME_ASSIGN_OR_RETURN(const SessionInfo source,
                           context_.engine->GetSession(options.source_session));
    options.model = source.model;
  }
  return options;
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
  // One that is quarantined has none.
  const absl::StatusOr<SessionInfo> present = context_.engine->GetSession(*id);
  if (present.ok() && present->condition == SessionCondition::kQuarantined) {
    return Answer(call, context_, kMethod, name, [&] {
      *reply = ToProto(*present);
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
                                   v1::ListSessionsResponse* reply) const {
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
  constexpr char kMethod[] = "mneme.v1.Sessions/DeleteSession";
  return AnswerOnce(
      call, context_, kMethod, request->name(), *request, reply,
      [&](google::protobuf::Empty* /*out*/, const RequestIdTable::Done& done) {
        absl::StatusOr<DeleteOptions> options = ToDelete(*request);
        if (!options.ok()) return done(options.status());
        options->request = TagOfSilent<SessionInfo>(kMethod, *request);
        context_.engine->DeleteSession(*options, Silent<SessionInfo>(done));
      });
}

absl::StatusOr<DeleteOptions> SessionsService::ToDelete(
    const v1::DeleteSessionRequest& request) const {
  DeleteOptions options;
  MNEME_ASSIGN_OR_RETURN(options.session,
                         ParseSessionName(request.name(), "name"));
  if (!request.etag().empty()) {
    MNEME_ASSIGN_OR_RETURN(const SessionInfo session,
                           context_.engine->GetSession(options.session));
    MNEME_RETURN_IF_ERROR(CheckEtag(request.etag(), session));
    options.uid = session.uid;
    options.revision = session.revision;
  }
  return options;
}

grpc::ServerUnaryReactor* SessionsService::UpdateSession(
    grpc::CallbackServerContext* call, const v1::UpdateSessionRequest* request,
    v1::Session* reply) {
  constexpr char kMethod[] = "mneme.v1.Sessions/UpdateSession";
  return AnswerOnce(
      call, context_, kMethod, request->session().name(), *request, reply,
      [&](v1::Session* out, const RequestIdTable::Done& done) {
        absl::StatusOr<UpdateSessionOptions> options = ToUpdate(*request);
        if (!options.ok()) return done(options.status());
        options->request = TagOf<SessionInfo>(kMethod, *request);
        context_.engine->UpdateSession(*options, Into<SessionInfo>(out, done));
      });
}

absl::StatusOr<UpdateSessionOptions> SessionsService::ToUpdate(
    const v1::UpdateSessionRequest& request) const {
  MNEME_ASSIGN_OR_RETURN(UpdateSessionOptions options, FromProto(request));
  if (!request.session().etag().empty()) {
    MNEME_ASSIGN_OR_RETURN(const SessionInfo session,
                           context_.engine->GetSession(options.session));
    MNEME_RETURN_IF_ERROR(CheckEtag(request.session().etag(), session));
    options.revision = session.revision;
  }
  return options;
}

grpc::ServerUnaryReactor* SessionsService::ForkSession(
    grpc::CallbackServerContext* call, const v1::ForkSessionRequest* request,
    v1::Session* reply) {
  constexpr char kMethod[] = "mneme.v1.Sessions/ForkSession";
  const std::string& resource =
      request->snapshot().empty() ? request->source() : request->snapshot();
  return AnswerOnce(call, context_, kMethod, resource, *request, reply,
                    [&](v1::Session* out, const RequestIdTable::Done& done) {
                      absl::StatusOr<ForkOptions> options = FromProto(*request);
                      if (!options.ok()) return done(options.status());
                      options->request = TagOf<SessionInfo>(kMethod, *request);
                      context_.engine->ForkSession(
                          *options, Into<SessionInfo>(out, done));
                    });
}

grpc::ServerUnaryReactor* SessionsService::RollbackSession(
    grpc::CallbackServerContext* call,
    const v1::RollbackSessionRequest* request, v1::Session* reply) {
  constexpr char kMethod[] = "mneme.v1.Sessions/RollbackSession";
  const std::string& resource =
      request->snapshot().empty() ? request->name() : request->snapshot();
  return AnswerOnce(call, context_, kMethod, resource, *request, reply,
                    [&](v1::Session* out, const RequestIdTable::Done& done) {
                      absl::StatusOr<RollbackOptions> options =
                          FromProto(*request);
                      if (!options.ok()) return done(options.status());
                      options->request = TagOf<SessionInfo>(kMethod, *request);
                      context_.engine->RollbackSession(
                          *options, Into<SessionInfo>(out, done));
                    });
}

grpc::ServerUnaryReactor* SessionsService::ResetSession(
    grpc::CallbackServerContext* call, const v1::ResetSessionRequest* request,
    v1::Session* reply) {
  constexpr char kMethod[] = "mneme.v1.Sessions/ResetSession";
  return AnswerOnce(call, context_, kMethod, request->name(), *request, reply,
                    [&](v1::Session* out, const RequestIdTable::Done& done) {
                      const absl::StatusOr<std::string> id =
                          ParseSessionName(request->name(), "name");
                      if (!id.ok()) return done(id.status());
                      context_.engine->ResetSession(
                          {.session = *id,
                           .takeover = request->takeover(),
                           .request = TagOf<SessionInfo>(kMethod, *request)},
                          Into<SessionInfo>(out, done));
                    });
}

grpc::ServerUnaryReactor* SessionsService::CreateSnapshot(
    grpc::CallbackServerContext* call, const v1::CreateSnapshotRequest* request,
    v1::Snapshot* reply) {
  constexpr char kMethod[] = "mneme.v1.Sessions/CreateSnapshot";
  return AnswerOnce(call, context_, kMethod, request->parent(), *request, reply,
                    [&](v1::Snapshot* out, const RequestIdTable::Done& done) {
                      const absl::StatusOr<std::string> id =
                          ParseSessionName(request->parent(), "parent");
                      if (!id.ok()) return done(id.status());
                      context_.engine->CreateSnapshot(
                          {.session = *id,
                           .name = request->snapshot_id(),
                           .request = TagOf<SnapshotInfo>(kMethod, *request)},
                          Into<SnapshotInfo>(out, done));
                    });
}

grpc::ServerUnaryReactor* SessionsService::GetSnapshot(
    grpc::CallbackServerContext* call, const v1::GetSnapshotRequest* request,
    v1::Snapshot* reply) {
  constexpr char kMethod[] = "mneme.v1.Sessions/GetSnapshot";
  return Answer(call, context_, kMethod, request->name(),
                [&] { return GetKept(*request, reply); });
}

absl::Status SessionsService::GetKept(const v1::GetSnapshotRequest& request,
                                      v1::Snapshot* reply) const {
  MNEME_ASSIGN_OR_RETURN(const SnapshotIds ids,
                         ParseSnapshotName(request.name(), "name"));
  MNEME_ASSIGN_OR_RETURN(const std::vector<SnapshotInfo> snapshots,
                         context_.engine->ListSnapshots(ids.session));
  for (const SnapshotInfo& snapshot : snapshots) {
    if (snapshot.name != ids.snapshot) continue;
    *reply = ToProto(snapshot);
    return absl::OkStatus();
  }
  return WithReason(
      absl::NotFoundError(absl::StrCat("session ", ids.session,
                                       " has no snapshot ", ids.snapshot)),
      {.reason = "SNAPSHOT_NOT_FOUND", .metadata = {}});
}

grpc::ServerUnaryReactor* SessionsService::ListSnapshots(
    grpc::CallbackServerContext* call, const v1::ListSnapshotsRequest* request,
    v1::ListSnapshotsResponse* reply) {
  constexpr char kMethod[] = "mneme.v1.Sessions/ListSnapshots";
  return Answer(call, context_, kMethod, request->parent(),
                [&] { return ListKept(*request, reply); });
}

absl::Status SessionsService::ListKept(const v1::ListSnapshotsRequest& request,
                                       v1::ListSnapshotsResponse* reply) const {
  MNEME_ASSIGN_OR_RETURN(const std::string id,
                         ParseSessionName(request.parent(), "parent"));
  MNEME_ASSIGN_OR_RETURN(const int64_t limit, PageSize(request.page_size()));
  MNEME_ASSIGN_OR_RETURN(
      const std::string place,
      DecodePageToken(request.page_token(), "snapshots", request.parent()));
  MNEME_ASSIGN_OR_RETURN(const std::vector<SnapshotInfo> snapshots,
                         context_.engine->ListSnapshots(id));
  const size_t begin = place.empty() ? 0 : FindPlace(place, snapshots);
  const size_t end =
      std::min(snapshots.size(), begin + static_cast<size_t>(limit));
  for (size_t i = begin; i < end; ++i) {
    *reply->add_snapshots() = ToProto(snapshots[i]);
  }
  if (end < snapshots.size()) {
    reply->set_next_page_token(
        EncodePageToken({.collection = "snapshots",
                         .filter = request.parent(),
                         .after = PlaceBehind(snapshots[end - 1], snapshots)}));
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* SessionsService::DeleteSnapshot(
    grpc::CallbackServerContext* call, const v1::DeleteSnapshotRequest* request,
    google::protobuf::Empty* reply) {
  constexpr char kMethod[] = "mneme.v1.Sessions/DeleteSnapshot";
  return AnswerOnce(
      call, context_, kMethod, request->name(), *request, reply,
      [&](google::protobuf::Empty* /*out*/, const RequestIdTable::Done& done) {
        const absl::StatusOr<SnapshotIds> ids =
            ParseSnapshotName(request->name(), "name");
        if (!ids.ok()) return done(ids.status());
        context_.engine->DeleteSnapshot(
            {.session = ids->session,
             .name = ids->snapshot,
             .request = TagOfSilent<SnapshotInfo>(kMethod, *request)},
            Silent<SnapshotInfo>(done));
      });
}

grpc::ServerWriteReactor<v1::ExportSessionResponse>*
SessionsService::ExportSession(grpc::CallbackServerContext* /*call*/,
                               const v1::ExportSessionRequest* request) {
  return new ExportReactor(context_, *request);
}

grpc::ServerReadReactor<v1::ImportSessionRequest>*
SessionsService::ImportSession(grpc::CallbackServerContext* /*call*/,
                               v1::Session* reply) {
  return new ImportReactor(context_, reply);
}

grpc::ServerWriteReactor<v1::SessionEvent>* SessionsService::WatchSession(
    grpc::CallbackServerContext* /*call*/,
    const v1::WatchSessionRequest* request) {
  return new WatchReactor(context_, *request);
}

grpc::ServerUnaryReactor* SessionsService::VerifySession(
    grpc::CallbackServerContext* call, const v1::VerifySessionRequest* request,
    v1::VerifySessionResponse* reply) {
  constexpr char kMethod[] = "mneme.v1.Sessions/VerifySession";
  const std::string& name = request->name();
  const absl::StatusOr<std::string> id = ParseSessionName(name, "name");
  if (!id.ok()) {
    return Answer(call, context_, kMethod, name, [&] { return id.status(); });
  }
  auto answer = LateAnswer<v1::VerifySessionResponse>::Make(
      call, context_, kMethod, name, reply);
  grpc::ServerUnaryReactor* const reactor = answer->reactor();
  answer->ApplyDefaultDeadline();
  context_.engine->VerifySession(*id, [answer](const absl::Status& found) {
    // Damage is what was asked for.
    const bool told = found.ok() || absl::IsDataLoss(found);
    answer->reply()->set_whole(found.ok());
    answer->reply()->set_problem(std::string(found.message()));
    answer->End(told ? absl::OkStatus() : found);
  });
  return reactor;
}

}  // namespace mneme::server
