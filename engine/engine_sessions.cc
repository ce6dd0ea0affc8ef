// SPDX-License-Identifier: Apache-2.0
//
// The engine's sessions: made, found, described, changed, deleted.
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/engine_impl.h"
#include "engine/model/model.h"
#include "engine/runtime/requests.h"

namespace mneme {
namespace {

constexpr int64_t kListChunk = 1000;

absl::Status CheckUid(const Session& session, const std::string& uid) {
  if (uid.empty() || uid == session.uid()) return absl::OkStatus();
  return WithReason(
      absl::AbortedError(absl::StrCat("session ", session.id(), " has uid ",
                                      session.uid(), ", want ", uid)),
      {.reason = "EPOCH_FENCED", .metadata = {{"uid", session.uid()}}});
}

}  // namespace

absl::StatusOr<std::shared_ptr<Session>> EngineImpl::FindSession(
    const std::string& id, const std::string& uid) const {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                         sessions_.Find(id));
  MNEME_RETURN_IF_ERROR(CheckUid(*session, uid));
  return session;
}

absl::StatusOr<SessionInfo> EngineImpl::CreateSession(
    const CreateSessionOptions& options) {
  MNEME_RETURN_IF_ERROR(Rejected(options.model, CheckAdmitting()));
  const std::string id = options.id.empty() ? RandomHex(1) : options.id;
  MNEME_RETURN_IF_ERROR(CheckId("session_id", id));
  MNEME_RETURN_IF_ERROR(CheckLabels(options.labels));
  MNEME_RETURN_IF_ERROR(CheckTtl(options.ttl));
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model,
                         FindModel(options.model));
  const bool has_text = model->tokenizer != nullptr;
  const SessionUnit unit = options.unit.value_or(
      has_text ? SessionUnit::kText : SessionUnit::kTokens);
  if (unit == SessionUnit::kText && !has_text) {
    return BadField("session.unit",
                    absl::StrCat("found TEXT, wanted TOKENS: model ",
                                 model->name, " has no tokenizer"));
  }
  if (sessions_.Contains(id)) {
    return absl::AlreadyExistsError(
        absl::StrCat("session ", id, " exists already"));
  }
  absl::StatusOr<ByteBudget::Reservation> reservation = budget_.Reserve(
      model->model->layout()->state_bytes() + Session::IndexBytes(),
      "a session");
  if (!reservation.ok()) return Rejected(model->name, reservation.status());
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<SessionState> state,
                         model->model->NewState());
  auto session = std::make_shared<Session>(
      Session::Setup{.id = id,
                     .uid = RandomHex(2),
                     .unit = unit,
                     .labels = options.labels,
                     .ttl = options.ttl,
                     .model = model,
                     .state = std::move(state),
                     .reservation = *std::move(reservation),
                     .clock = clock_,
                     .observer = observer_},
      [this](const Session& from, const std::shared_ptr<Task>& task,
             const SessionState& from_state, int64_t next_offset,
             const InputQueue& pending) {
        StartOnCopy(from, task, from_state, next_offset, pending);
      });
  MNEME_RETURN_IF_ERROR(sessions_.Insert(session));
  const SessionInfo info = session->Info();
  sessions_.ExpireAt(session, info.expire_time);
  observer_->OnSessionEvent(model->name, SessionEventKind::kCreate);
  return info;
}

absl::StatusOr<SessionInfo> EngineImpl::GetSession(
    const std::string& id) const {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                         FindSession(id, ""));
  return session->Info();
}

void EngineImpl::WithSession(
    const std::string& id,
    const std::function<void(absl::StatusOr<SessionInfo>)>& done,
    std::function<absl::StatusOr<SessionInfo>(const std::shared_ptr<Session>&)>
        work) {
  absl::StatusOr<std::shared_ptr<Session>> found = FindSession(id, "");
  if (!found.ok()) {
    done(found.status());
    return;
  }
  const bool posted =
      housekeeper_.Post([session = *std::move(found), done,
                         work = std::move(work)] { done(work(session)); });
  if (!posted) {
    done(WithReason(absl::ResourceExhaustedError(
                        "too many requests wait for their sessions"),
                    {.reason = "QUEUE_FULL", .metadata = {}}));
  }
}

void EngineImpl::DescribeSession(
    const std::string& id,
    std::function<void(absl::StatusOr<SessionInfo>)> done) {
  WithSession(
      id, done,
      [this](const std::shared_ptr<Session>& session)
          -> absl::StatusOr<SessionInfo> {
        SessionInfo info;
        const bool alive = session->WithState(
            [&session](const SessionState& state, std::string_view pending,
                       SessionInfo& described) {
              described.state_digest =
                  state.Digest(session->model().fingerprint(), pending);
            },
            info);
        scheduler_.Wake(session);
        if (alive) return info;
        return absl::NotFoundError(
            absl::StrCat("session ", session->id(), " was deleted"));
      });
}

std::vector<SessionInfo> EngineImpl::ListSessions(
    const std::string& after, int64_t limit,
    const SessionFilter& filter) const {
  std::vector<SessionInfo> infos;
  std::string last = after;
  while (static_cast<int64_t>(infos.size()) < limit) {
    const std::vector<std::shared_ptr<Session>> chunk =
        sessions_.List(last, kListChunk);
    for (const std::shared_ptr<Session>& session : chunk) {
      SessionInfo info = session->Info();
      if (!Matches(filter, info)) continue;
      infos.push_back(std::move(info));
      if (static_cast<int64_t>(infos.size()) == limit) break;
    }
    if (static_cast<int64_t>(chunk.size()) < kListChunk) break;
    last = chunk.back()->id();
  }
  return infos;
}

absl::StatusOr<SessionInfo> EngineImpl::UpdateSession(
    const UpdateSessionOptions& options) {
  if (options.labels.has_value()) {
    MNEME_RETURN_IF_ERROR(CheckLabels(*options.labels));
  }
  if (options.ttl.has_value()) {
    MNEME_RETURN_IF_ERROR(CheckTtl(*options.ttl));
  }
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                         FindSession(options.session, ""));
  MNEME_ASSIGN_OR_RETURN(SessionInfo info, session->Update(options));
  sessions_.ExpireAt(session, info.expire_time);
  return info;
}

void EngineImpl::ResetSession(
    const std::string& id, bool takeover,
    std::function<void(absl::StatusOr<SessionInfo>)> done) {
  WithSession(id, done,
              [this, takeover](const std::shared_ptr<Session>& session)
                  -> absl::StatusOr<SessionInfo> {
                MNEME_RETURN_IF_ERROR(session->Reset(takeover));
                scheduler_.Wake(session);
                observer_->OnSessionEvent(session->served().name,
                                          SessionEventKind::kReset);
                return session->Info();
              });
}

void EngineImpl::Expire() {
  for (const auto& session : sessions_.TakeExpired(clock_->Now())) {
    observer_->OnSessionEvent(session->served().name,
                              SessionEventKind::kExpire);
  }
  const absl::Duration now = clock_->Monotonic();
  for (const std::shared_ptr<Task>& task : tasks_.List()) {
    if (task->CancelIfUnread(now)) WakeLane(scheduler_, *task);
  }
}

absl::Status EngineImpl::DeleteSession(const std::string& id,
                                       const std::string& uid) {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                         FindSession(id, uid));
  if (!sessions_.Remove(session)) {
    return absl::NotFoundError(absl::StrCat("session ", id, " is not there"));
  }
  EndSession(session);
  return absl::OkStatus();
}

void EngineImpl::EndSession(const std::shared_ptr<Session>& session) {
  for (const std::shared_ptr<Task>& task : session->Delete()) {
    WakeLane(scheduler_, *task);
  }
  scheduler_.Wake(session);
  observer_->OnSessionEvent(session->served().name, SessionEventKind::kDelete);
}

}  // namespace mneme
