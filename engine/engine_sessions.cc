// SPDX-License-Identifier: Apache-2.0
//
// The engine's sessions: made, found, described, changed, deleted.
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/wait_for.h"
#include "engine/engine_impl.h"
#include "engine/model/model.h"
#include "engine/runtime/held_session.h"
#include "engine/runtime/requests.h"

namespace mneme {
namespace {

// How often what was deleted is taken out of the store's files.
constexpr absl::Duration kCompactEvery = absl::Minutes(10);

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

absl::Status EngineImpl::BindModel(Session& session) const {
  if (session.served_ptr() != nullptr) return absl::OkStatus();
  absl::StatusOr<std::shared_ptr<const ServedModel>> model =
      FindModel(session.model_name());
  if (absl::IsNotFound(model.status())) {
    return WithReason(absl::UnavailableError(
                          absl::StrCat("session ", session.id(), ": its model ",
                                       session.model_name(), " is not loaded")),
                      {.reason = "MODEL_LOADING", .metadata = {}});
  }
  MNEME_RETURN_IF_ERROR(model.status());
  return session.Bind(*model);
}

// -- In memory ---------------------------------------------------------------

void EngineImpl::StartLoad(std::shared_ptr<Session> session) {
  io_.Post([this, session = std::move(session)] {
    absl::Status refused = CheckOpen();
    if (refused.ok()) refused = BindModel(*session);
    if (!refused.ok()) {
      session->FailLoad(refused);
      return;
    }
    const int64_t bytes = Session::HotBytes(session->served());
    absl::StatusOr<ByteBudget::Reservation> room =
        residency_.Reserve(bytes, "a session");
    if (room.ok()) {
      session->LoadFrom(*std::move(room));
      return;
    }
    rooms_.Ask(
        bytes, "a session",
        [this, session](absl::StatusOr<ByteBudget::Reservation> made) {
          if (!made.ok()) {
            session->FailLoad(made.status());
            return;
          }
          io_.Post([session, kept = std::make_shared<ByteBudget::Reservation>(
                                 *std::move(made))] {
            session->LoadFrom(std::move(*kept));
          });
        });
  });
}

void EngineImpl::LoadOnly(const std::string& id, const std::string& uid,
                          Done<std::shared_ptr<HeldSession>> done) {
  const absl::StatusOr<std::shared_ptr<Session>> found = FindSession(id, uid);
  absl::Status refused = found.status();
  if (refused.ok()) refused = CheckOpen();
  if (refused.ok()) refused = BindModel(**found);
  if (!refused.ok()) {
    done(refused);
    return;
  }
  auto hold = [this, session = *found, done, call = calls_.Enter()](
                  const absl::StatusOr<LoadReport>& report) {
    if (!report.ok()) {
      done(Rejected(session->model_name(), report.status()));
    } else {
      done(std::make_shared<HeldSession>(session, *report));
    }
  };
  bool start = false;
  const bool hot = (*found)->Hold(hold, &start);
  if (hot) hold(LoadReport{});
  if (start) StartLoad(*found);
}

void EngineImpl::TellLoaded(const std::shared_ptr<Session>& session,
                            Done<SessionInfo> done) {
  LoadOnly(session->id(), session->uid(),
           [session, done = std::move(done)](
               absl::StatusOr<std::shared_ptr<HeldSession>> hold) {
             const SessionInfo info = session->Info();
             if (hold.ok()) hold->reset();
             done(info);
           });
}

void EngineImpl::Load(const std::string& id, const std::string& uid,
                      Done<std::shared_ptr<SessionHold>> done) {
  LoadOnly(id, uid,
           [this, done](absl::StatusOr<std::shared_ptr<HeldSession>> held) {
             if (!held.ok()) {
               done(held.status());
               return;
             }
             // What a stream takes, and what a copy of the state would.
             const ServedModel& served = (*held)->session().served();
             const int64_t stream = StreamBytes(*served.model);
             const int64_t copy = served.model->layout()->state_bytes();
             const bool kept =
                 (*held)->KeepRoom(budget_.Reserve(stream, "a stream"));
             if (kept && residency_.HasRoom(copy)) {
               done(*std::move(held));
               return;
             }
             // Others have to be put out for it. If that does not suffice, the
             // stream is told when it is opened.
             if (kept) {
               io_.Post([this, held = *std::move(held), done, copy] {
                 residency_.MakeRoom(copy);
                 done(held);
               });
               return;
             }
             rooms_.Ask(stream, "a stream",
                        [held = *std::move(held),
                         done](absl::StatusOr<ByteBudget::Reservation> made) {
                          held->KeepRoom(std::move(made));
                          done(held);
                        });
           });
}

absl::StatusOr<ByteBudget::Reservation> EngineImpl::TakeRoom(SessionHold& hold,
                                                             int64_t bytes,
                                                             const char* what) {
  ByteBudget::Reservation room = static_cast<HeldSession&>(hold).TakeRoom();
  if (room.bytes() == 0) return budget_.Reserve(bytes, what);
  MNEME_RETURN_IF_ERROR(room.Resize(bytes, what));
  return room;
}

absl::StatusOr<EngineImpl::Held> EngineImpl::HoldSession(
    const std::string& id, const std::string& uid,
    const std::shared_ptr<SessionHold>& hold) {
  Held held{.hold = hold};
  if (held.hold == nullptr) {
    MNEME_ASSIGN_OR_RETURN(
        held.hold, WaitFor<absl::StatusOr<std::shared_ptr<SessionHold>>>(
                       [&](Done<std::shared_ptr<SessionHold>> done) {
                         Load(id, uid, std::move(done));
                       }));
  }
  MNEME_ASSIGN_OR_RETURN(held.session, FindSession(id, uid));
  return held;
}

void EngineImpl::WhenRoom(int64_t bytes, std::function<void()> work) {
  // Others may have to be put out for it, which takes time.
  if (residency_.HasRoom(bytes)) {
    work();
  } else {
    waits_.Post(std::move(work));
  }
}

void EngineImpl::WithLoaded(const std::shared_ptr<Session>& session,
                            const Done<SessionInfo>& done, SessionWork work) {
  LoadOnly(session->id(), session->uid(),
           [this, session, done, work = std::move(work)](
               const absl::StatusOr<std::shared_ptr<HeldSession>>& hold) {
             if (!hold.ok()) {
               done(hold.status());
               return;
             }
             waits_.Post([session, hold = *hold, done, work]() mutable {
               absl::StatusOr<SessionInfo> outcome = work(*session);
               hold.reset();
               done(std::move(outcome));
             });
           });
}

void EngineImpl::WithQuiet(
    const std::shared_ptr<Session>& session,
    std::function<void(absl::Status status, Session& session)> work) {
  if (session->BeginRest()) {
    io_.Post([session, work = std::move(work)] {
      work(absl::OkStatus(), *session);
      session->EndRest();
    });
    return;
  }
  LoadOnly(session->id(), session->uid(),
           [session, work = std::move(work), call = calls_.Enter()](
               const absl::StatusOr<std::shared_ptr<HeldSession>>& hold) {
             if (!hold.ok()) {
               work(hold.status(), *session);
               return;
             }
             session->WhenQuiet([session, hold = *hold, work,
                                 call](const absl::Status& status) {
               work(status, *session);
             });
           });
}

// -- Made --------------------------------------------------------------------

absl::StatusOr<SessionRecord> EngineImpl::NewRecord(
    const std::string& id, const std::map<std::string, std::string>& labels,
    absl::Duration ttl, const ServedModel& model, SessionUnit unit) {
  SessionRecord record;
  record.id = id.empty() ? RandomHex(1) : id;
  MNEME_RETURN_IF_ERROR(CheckId("session_id", record.id));
  MNEME_RETURN_IF_ERROR(CheckLabels(labels));
  MNEME_RETURN_IF_ERROR(CheckTtl(ttl));
  record.uid = RandomHex(2);
  record.counts_tokens = unit == SessionUnit::kTokens;
  record.model = model.name;
  record.model_fingerprint = model.model->fingerprint();
  record.arithmetic_level = model.model->arithmetic_level();
  record.labels = labels;
  record.ttl = ttl;
  record.start_seq = 0;
  record.create_time = clock_->Now();
  record.update_time = record.create_time;
  return record;
}

std::shared_ptr<Session> EngineImpl::MakeSession(
    FoundSession stored, std::shared_ptr<const ServedModel> model,
    ByteBudget::Reservation index) {
  // Counting has no limit.
  absl::StatusOr<ByteBudget::Reservation> counted =
      index_.Reserve(index.bytes(), "a session's entry");
  return std::make_shared<Session>(Session::Setup{
      .stored = std::move(stored),
      .model = std::move(model),
      .index = std::move(index),
      .counted = counted.ok() ? *std::move(counted) : ByteBudget::Reservation(),
      .limits = limits_,
      .store = store_.get(),
      .buffers = &buffers_,
      .host = this,
      .clock = clock_,
      .observer = observer_});
}

void EngineImpl::BeginAt(StoredSnapshot snapshot, SessionRecord& record) {
  snapshot.name.clear();
  snapshot.next_seq = 0;
  record.ring.push_back(std::move(snapshot));
  record.start_seq.reset();
}

void EngineImpl::AddSession(SessionRecord record,
                            const std::shared_ptr<const ServedModel>& model,
                            const RequestTag<SessionInfo>& request,
                            SessionEventKind event, Done<SessionInfo> done) {
  const int64_t bytes = Session::IndexBytes(record);
  WhenRoom(bytes, [=, this, record = std::move(record)] {
    AddWaiting(record, model, request, event, done);
  });
}

void EngineImpl::AddWaiting(SessionRecord record,
                            const std::shared_ptr<const ServedModel>& model,
                            const RequestTag<SessionInfo>& request,
                            SessionEventKind event, Done<SessionInfo> done) {
  absl::StatusOr<ByteBudget::Reservation> index =
      residency_.Reserve(Session::IndexBytes(record), "a session's entry");
  if (!index.ok()) {
    done(Rejected(model->name, index.status()));
    return;
  }
  const std::shared_ptr<Session> session =
      MakeSession({.record = std::move(record), .journal = absl::nullopt},
                  model, *std::move(index));
  const absl::Status bound = session->Bind(model);
  const absl::Status inserted = bound.ok() ? sessions_.Insert(session) : bound;
  if (!inserted.ok()) {
    done(inserted);
    return;
  }
  const SessionInfo info = session->Info();
  sessions_.ExpireAt(session, session->ExpiresAt());
  session->Create(Remember(request, info, clock_->Now()),
                  [this, session, event, done](const absl::Status& stored) {
                    if (!stored.ok()) {
                      sessions_.Remove(session);
                      EndSession(session, SessionEvent::Kind::kDeleted);
                      done(stored);
                      return;
                    }
                    observer_->OnSessionEvent(session->model_name(), event);
                    // It is in memory at once where that puts nobody out.
                    const bool room = residency_.HasRoom(
                        Session::HotBytes(session->served()) + kStreamBytes);
                    if (!room || !session->Untouched()) {
                      done(session->Info());
                      return;
                    }
                    TellLoaded(session, done);
                  });
}

void EngineImpl::CreateSession(const CreateSessionOptions& options,
                               Done<SessionInfo> done) {
  const absl::Status status = [&]() -> absl::Status {
    MNEME_RETURN_IF_ERROR(Rejected(options.model, CheckAdmitting()));
    MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> model,
                           FindModel(options.model));
    const bool has_text = model->tokenizer != nullptr;
    StoredSnapshot base;
    SessionUnit unit = options.unit.value_or(has_text ? SessionUnit::kText
                                                      : SessionUnit::kTokens);
    if (!options.source_session.empty()) {
      MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Session> source,
                             FindSession(options.source_session, ""));
      MNEME_ASSIGN_OR_RETURN(
          base, FindSnapshot(source->record(), options.source_snapshot));
      if (base.model_fingerprint != model->model->fingerprint()) {
        return WithReason(
            absl::FailedPreconditionError(
                absl::StrCat("snapshot ", options.source_snapshot,
                             " of session ", options.source_session,
                             " is of another model than ", model->name)),
            {.reason = "STATE_INCOMPATIBLE",
             .metadata = {{"found", base.model_fingerprint},
                          {"expected", model->model->fingerprint()}}});
      }
      if (options.unit.has_value() && unit != source->unit()) {
        return BadField("session.unit",
                        "found another unit than the snapshot's session has");
      }
      unit = source->unit();
    }
    if (unit == SessionUnit::kText && !has_text) {
      return BadField("session.unit",
                      absl::StrCat("found TEXT, wanted TOKENS: model ",
                                   model->name, " has no tokenizer"));
    }
    MNEME_ASSIGN_OR_RETURN(
        SessionRecord record,
        NewRecord(options.id, options.labels, options.ttl, *model, unit));
    if (sessions_.Contains(record.id)) {
      return absl::AlreadyExistsError(
          absl::StrCat("session ", record.id, " exists already"));
    }
    if (options.snapshot_interval_tokens < 0) {
      return BadField("session.snapshot_interval_tokens",
                      "found a negative number, wanted 0 or more");
    }
    record.snapshot_interval_tokens = options.snapshot_interval_tokens;
    record.pinned = options.pinned;
    if (!options.source_session.empty()) {
      BeginAt(std::move(base), record);
    }
    AddSession(std::move(record), model, options.request,
               SessionEventKind::kCreate, done);
    return absl::OkStatus();
  }();
  if (!status.ok()) done(status);
}

absl::StatusOr<SessionInfo> EngineImpl::GetSession(
    const std::string& id) const {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                         FindSession(id, ""));
  return session->Info();
}

void EngineImpl::DescribeSession(const std::string& id,
                                 Done<SessionInfo> done) {
  const absl::StatusOr<std::shared_ptr<Session>> found = FindSession(id, "");
  if (!found.ok()) {
    done(found.status());
    return;
  }
  SessionInfo known;
  if ((*found)->InfoAtRest(known)) {
    done(known);
    return;
  }
  WithLoaded(
      *found, done, [this](Session& session) -> absl::StatusOr<SessionInfo> {
        SessionInfo info;
        const absl::Status read = session.WithState(
            [&session](const SessionState& state, std::string_view pending,
                       SessionInfo& described) {
              described.state_digest =
                  state.Digest(session.model().fingerprint(), pending);
            },
            info);
        scheduler_.Wake(session.shared_from_this());
        MNEME_RETURN_IF_ERROR(read);
        return info;
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

void EngineImpl::UpdateSession(const UpdateSessionOptions& options,
                               Done<SessionInfo> done) {
  const absl::StatusOr<std::shared_ptr<Session>> found =
      FindSession(options.session, "");
  absl::Status refused = found.status();
  if (refused.ok() && options.labels.has_value()) {
    refused = CheckLabels(*options.labels);
  }
  if (refused.ok() && options.ttl.has_value()) {
    refused = CheckTtl(*options.ttl);
  }
  if (refused.ok() && options.snapshot_interval_tokens.value_or(0) < 0) {
    refused = BadField("session.snapshot_interval_tokens",
                       "found a negative number, wanted 0 or more");
  }
  if (!refused.ok()) {
    done(refused);
    return;
  }
  (*found)->Update(options, [this, session = *found,
                             done](absl::StatusOr<SessionInfo> info) {
    if (info.ok()) sessions_.ExpireAt(session, session->ExpiresAt());
    done(std::move(info));
  });
}

// -- Gone --------------------------------------------------------------------

void EngineImpl::Tick() {
  const absl::Duration now = clock_->Monotonic();
  for (const auto& session : sessions_.TakeExpired(now, clock_->Now())) {
    EndSession(session, SessionEvent::Kind::kExpired);
    Erase(session->uid());
    observer_->OnSessionEvent(session->model_name(), SessionEventKind::kExpire);
  }
  for (const std::string& uid : TakeUnerased()) Erase(uid);
  for (const std::shared_ptr<Task>& task : tasks_.List()) {
    if (task->CancelIfUnread(now)) WakeLane(scheduler_, *task);
  }
  if (!store_->stats().must_compact) return;
  {
    absl::MutexLock lock(&mutex_);
    if (now < next_compaction_) return;
    next_compaction_ = now + kCompactEvery;
  }
  waits_.Post([this] {
    const absl::Status status = store_->Compact();
    if (!status.ok()) LogWarning("the store: ", status.ToString());
  });
}

void EngineImpl::Erase(const std::string& uid) {
  store_->Write({.uid = uid, .remove = true},
                [this, uid](const absl::Status& status) {
                  if (status.ok()) return;
                  absl::MutexLock lock(&mutex_);
                  unerased_.push_back(uid);
                });
}

std::vector<std::string> EngineImpl::TakeUnerased() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(unerased_, {});
}

void EngineImpl::DeleteSession(const DeleteOptions& options,
                               Done<SessionInfo> done) {
  const absl::StatusOr<std::shared_ptr<Session>> found =
      FindSession(options.session, options.uid);
  if (!found.ok()) {
    done(found.status());
    return;
  }
  (*found)->RemoveStored(
      options, [this, session = *found, done](absl::StatusOr<SessionInfo> was) {
        if (was.ok() && !sessions_.Remove(session)) {
          was = absl::NotFoundError(
              absl::StrCat("session ", session->id(), " is not there"));
        }
        if (was.ok()) {
          EndSession(session, SessionEvent::Kind::kDeleted);
          observer_->OnSessionEvent(session->model_name(),
                                    SessionEventKind::kDelete);
        }
        done(std::move(was));
      });
}

void EngineImpl::EndSession(const std::shared_ptr<Session>& session,
                            SessionEvent::Kind kind) {
  for (const std::shared_ptr<Task>& task : session->Delete(kind)) {
    WakeLane(scheduler_, *task);
  }
  residency_.Forget(*session);
  scheduler_.Wake(session);
}

}  // namespace mneme
