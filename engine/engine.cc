// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/byte_budget.h"
#include "engine/base/errors.h"
#include "engine/base/machine.h"
#include "engine/base/status_macros.h"
#include "engine/model/model.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/ops/reference/reference_backend.h"
#include "engine/runtime/copy_lane.h"
#include "engine/runtime/housekeeper.h"
#include "engine/runtime/load_served_model.h"
#include "engine/runtime/requests.h"
#include "engine/runtime/scheduler.h"
#include "engine/runtime/served_model.h"
#include "engine/runtime/session.h"
#include "engine/runtime/session_streams.h"
#include "engine/runtime/session_table.h"

namespace mneme {
namespace {

constexpr absl::Duration kExpireEvery = absl::Seconds(1);
constexpr int64_t kListChunk = 1000;

absl::Status CheckUid(const Session& session, const std::string& uid) {
  if (uid.empty() || uid == session.uid()) return absl::OkStatus();
  return WithReason(
      absl::AbortedError(absl::StrCat("session ", session.id(), " has uid ",
                                      session.uid(), ", want ", uid)),
      {.reason = "EPOCH_FENCED", .metadata = {{"uid", session.uid()}}});
}

absl::Status Loading(const std::string& name) {
  return WithReason(
      absl::UnavailableError(absl::StrCat("model ", name, " is being loaded")),
      {.reason = "MODEL_LOADING", .metadata = {}});
}

class EngineImpl final : public Engine {
 public:
  // `options.threads` is not 0.
  EngineImpl(const EngineOptions& options, std::unique_ptr<Backend> backend)
      : threads_(options.threads),
        clock_(options.clock),
        observer_(options.observer != nullptr ? options.observer
                                              : &no_observer_),
        backend_(std::move(backend)),
        budget_(options.session_memory_bytes > 0 ? options.session_memory_bytes
                                                 : MemoryBytes() / 2),
        scheduler_(clock_, observer_),
        housekeeper_(kExpireEvery, [this] { Expire(); }) {}

  ~EngineImpl() override {
    Drain(absl::InfinitePast());
    // Generations without a stream hold their sessions until they have ended.
    tasks_.AwaitNone(absl::InfiniteFuture());
  }

  absl::Status LoadModel(const std::string& name,
                         const std::string& directory) override;
  absl::Status UnloadModel(const std::string& name, bool force) override;
  std::vector<ModelInfo> ListModels() const override;
  absl::StatusOr<ModelInfo> GetModel(const std::string& name) const override;
  absl::StatusOr<std::vector<TextToken>> Tokenize(
      const std::string& model, std::string_view text) const override;
  absl::StatusOr<std::string> Detokenize(
      const std::string& model,
      const std::vector<int32_t>& tokens) const override;
  absl::StatusOr<SessionInfo> CreateSession(
      const CreateSessionOptions& options) override;
  absl::StatusOr<SessionInfo> GetSession(const std::string& id) const override;
  void DescribeSession(
      const std::string& id,
      std::function<void(absl::StatusOr<SessionInfo>)> done) override;
  std::vector<SessionInfo> ListSessions(
      const std::string& after, int64_t limit,
      const SessionFilter& filter) const override;
  absl::StatusOr<SessionInfo> UpdateSession(
      const UpdateSessionOptions& options) override;
  void ResetSession(
      const std::string& id, bool takeover,
      std::function<void(absl::StatusOr<SessionInfo>)> done) override;
  absl::Status DeleteSession(const std::string& id,
                             const std::string& uid) override;
  absl::StatusOr<std::unique_ptr<AppendStream>> OpenAppend(
      const AppendOptions& options, StreamListener* listener) override;
  absl::StatusOr<std::unique_ptr<Generation>> Generate(
      const GenerateOptions& options, StreamListener* listener) override;
  absl::StatusOr<std::unique_ptr<Scoring>> Score(
      const ScoreOptions& options, StreamListener* listener) override;
  EngineStats stats() const override;
  absl::Status SetSessionMemory(int64_t bytes) override;
  int64_t Drain(absl::Time deadline) override;

 private:
  absl::Status CheckAdmitting() const;
  absl::StatusOr<std::shared_ptr<const ServedModel>> FindModel(
      const std::string& name) const;
  // Ends what goes on with a session that was taken out of the table.
  void EndSession(const std::shared_ptr<Session>& session);
  // The session, if it is there and `uid` is empty or its own.
  absl::StatusOr<std::shared_ptr<Session>> FindSession(
      const std::string& id, const std::string& uid) const;
  ModelInfo Describe(const ServedModel& model) const;
  // Has the housekeeper do `work` on a session, and calls `done` with what
  // comes of it.
  void WithSession(const std::string& id,
                   std::function<void(absl::StatusOr<SessionInfo>)> done,
                   std::function<absl::StatusOr<SessionInfo>(
                       const std::shared_ptr<Session>&)>
                       work);
  // Deletes the sessions that have expired, and ends the generations whose
  // readers let them wait for too long.
  void Expire();
  // The kept answer to the request id of `options`; null if there is none.
  absl::StatusOr<std::unique_ptr<Generation>> Attach(
      const Session& session, const GenerateOptions& options,
      StreamListener* listener);
  // Gives `task` its memory, `scratch_bytes` of it its own, and its place in
  // `session`.
  absl::Status StartTask(const std::shared_ptr<Session>& session,
                         const std::shared_ptr<Task>& task, std::string prompt,
                         int64_t scratch_bytes = 0, KeptReply kept = {});
  void StartOnCopy(const Session& session, const std::shared_ptr<Task>& task,
                   const SessionState& state, int64_t next_offset,
                   std::string_view pending);
  absl::Status Rejected(const std::string& model, absl::Status status) const;
  std::string RandomHex(int words);

  const int threads_;
  const Clock* const clock_;
  Observer no_observer_;
  Observer* const observer_;
  const std::unique_ptr<Backend> backend_;
  ByteBudget budget_;
  TaskRegistry tasks_;
  SessionTable sessions_;

  mutable absl::Mutex mutex_;
  absl::BitGen random_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  // Null while it is being loaded.
  std::map<std::string, std::shared_ptr<const ServedModel>> models_
      ABSL_GUARDED_BY(mutex_);

  Scheduler scheduler_;      // before what still uses it when it ends
  Housekeeper housekeeper_;  // last: its chores use all of the above
};

std::string EngineImpl::RandomHex(int words) {
  absl::MutexLock lock(&mutex_);
  std::string hex;
  for (int i = 0; i < words; ++i) {
    absl::StrAppendFormat(&hex, "%016x", absl::Uniform<uint64_t>(random_));
  }
  return hex;
}

absl::Status EngineImpl::Rejected(const std::string& model,
                                  absl::Status status) const {
  const absl::optional<ErrorReason> reason = GetReason(status);
  if (reason.has_value()) observer_->OnRejected(model, reason->reason);
  return status;
}

absl::Status EngineImpl::CheckAdmitting() const {
  absl::MutexLock lock(&mutex_);
  if (!draining_) return absl::OkStatus();
  return WithReason(absl::UnavailableError("the server is draining"),
                    {.reason = "DRAINING", .metadata = {}});
}

// -- Models ------------------------------------------------------------------

absl::Status EngineImpl::LoadModel(const std::string& name,
                                   const std::string& directory) {
  MNEME_RETURN_IF_ERROR(CheckId("name", name));
  {
    absl::MutexLock lock(&mutex_);
    const auto [place, made] = models_.emplace(name, nullptr);
    if (!made) {
      return absl::AlreadyExistsError(absl::StrCat("model ", name,
                                                   place->second == nullptr
                                                       ? " is being loaded"
                                                       : " is loaded already"));
    }
  }
  absl::StatusOr<std::shared_ptr<const ServedModel>> served =
      LoadServedModel(name, directory, *backend_, *clock_, scheduler_);
  if (served.ok()) sessions_.AddModel(**served);
  absl::MutexLock lock(&mutex_);
  if (!served.ok()) {
    models_.erase(name);
    return absl::Status(served.status().code(),
                        absl::StrCat("model ", name, " from ", directory, ": ",
                                     served.status().message()));
  }
  models_[name] = *std::move(served);
  return absl::OkStatus();
}

absl::Status EngineImpl::UnloadModel(const std::string& name, bool force) {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> served,
                         FindModel(name));
  const SessionTable::Retired retired = sessions_.RetireModel(*served, force);
  if (retired.sessions > 0 && !force) {
    return WithReason(
        absl::FailedPreconditionError(
            absl::StrCat("model ", name, " has ", retired.sessions,
                         " sessions; delete them, or unload with force")),
        {.reason = "MODEL_IN_USE",
         .metadata = {{"sessions", absl::StrCat(retired.sessions)}}});
  }
  {
    absl::MutexLock lock(&mutex_);
    const auto it = models_.find(name);
    if (it == models_.end() || it->second != served) {
      return absl::NotFoundError(
          absl::StrCat("model ", name, " is not loaded"));
    }
    models_.erase(it);
  }
  for (const std::shared_ptr<Session>& session : retired.taken) {
    EndSession(session);
  }
  scheduler_.RemoveModel(*served->model);
  return absl::OkStatus();
}

ModelInfo EngineImpl::Describe(const ServedModel& served) const {
  const Model& model = *served.model;
  const ModelConfig& config = model.config();
  ModelInfo info;
  info.name = served.name;
  info.state = ModelState::kLoaded;
  info.fingerprint = model.fingerprint();
  info.kind = config.model_type;
  info.mixers = model.mixer_kinds();
  info.tokenizer = served.tokenizer == nullptr
                       ? "none"
                       : std::string(served.tokenizer->kind());
  info.arithmetic_level = model.arithmetic_level();
  info.parameters = model.parameters();
  info.layers = config.layers;
  info.model_dim = config.model_dim;
  info.vocab_size = config.vocab_size;
  info.weight_bytes = model.weight_bytes();
  info.state_bytes = model.layout()->state_bytes();
  info.scratch_bytes = model.workspace_bytes(model.max_rows());
  info.stream_bytes =
      kStreamBytes + Sampler::ScratchBytes(
                         {.presence_penalty = 1,
                          .penalty_window_tokens = SessionState::kRecentTokens},
                         config.vocab_size);
  info.index_bytes = Session::IndexBytes();
  info.block_tokens = model.block_tokens();
  info.segment_tokens = model.segment_tokens();
  info.bos_token = config.bos_token;
  info.eos_tokens = config.eos_tokens;
  info.load_time = served.load_time;
  info.sessions = sessions_.CountOf(served);
  return info;
}

std::vector<ModelInfo> EngineImpl::ListModels() const {
  absl::MutexLock lock(&mutex_);
  std::vector<ModelInfo> models;
  for (const auto& [name, served] : models_) {
    if (served != nullptr) {
      models.push_back(Describe(*served));
    } else {
      models.push_back({.name = name, .state = ModelState::kLoading});
    }
  }
  return models;
}

absl::StatusOr<ModelInfo> EngineImpl::GetModel(const std::string& name) const {
  for (ModelInfo& model : ListModels()) {
    if (model.name == name) return std::move(model);
  }
  return absl::NotFoundError(absl::StrCat("model ", name, " is not loaded"));
}

absl::StatusOr<std::shared_ptr<const ServedModel>> EngineImpl::FindModel(
    const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  const auto it = models_.find(name);
  if (it == models_.end()) {
    return absl::NotFoundError(absl::StrCat("model ", name, " is not loaded"));
  }
  if (it->second == nullptr) return Loading(name);
  return it->second;
}

absl::StatusOr<std::vector<TextToken>> EngineImpl::Tokenize(
    const std::string& model, std::string_view text) const {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> served,
                         FindModel(model));
  return served->Tokenize(text);
}

absl::StatusOr<std::string> EngineImpl::Detokenize(
    const std::string& model, const std::vector<int32_t>& tokens) const {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<const ServedModel> served,
                         FindModel(model));
  return served->Detokenize(tokens);
}

// -- Sessions ----------------------------------------------------------------

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
             std::string_view pending) {
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
    std::function<void(absl::StatusOr<SessionInfo>)> done,
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
      id, std::move(done),
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
  WithSession(id, std::move(done),
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

// -- Streams -----------------------------------------------------------------

absl::StatusOr<std::unique_ptr<AppendStream>> EngineImpl::OpenAppend(
    const AppendOptions& options, StreamListener* listener) {
  MNEME_ASSIGN_OR_RETURN(std::shared_ptr<Session> session,
                         FindSession(options.session, options.uid));
  MNEME_RETURN_IF_ERROR(Rejected(session->served().name, CheckAdmitting()));
  absl::StatusOr<ByteBudget::Reservation> reservation =
      budget_.Reserve(kStreamBytes, "an append stream");
  if (!reservation.ok()) {
    return Rejected(session->served().name, reservation.status());
  }
  AppendOpened opened;
  MNEME_ASSIGN_OR_RETURN(std::shared_ptr<SessionWriter> writer,
                         session->OpenWriter(options, listener, opened));
  scheduler_.Wake(session);
  return std::make_unique<SessionAppendStream>(
      std::move(session), std::move(writer), std::move(opened),
      *std::move(reservation), &scheduler_);
}

absl::Status EngineImpl::StartTask(const std::shared_ptr<Session>& session,
                                   const std::shared_ptr<Task>& task,
                                   std::string prompt, int64_t scratch_bytes,
                                   KeptReply kept) {
  const int64_t copy_bytes =
      task->commits() ? 0 : session->model().layout()->state_bytes();
  MNEME_ASSIGN_OR_RETURN(
      ByteBudget::Reservation reservation,
      budget_.Reserve(
          kStreamBytes + copy_bytes + scratch_bytes,
          task->commits() ? "a stream" : "a stream on a copy of a state"));
  task->Hold(std::move(reservation));
  task->SetLane(session);
  // Its end may come before this returns.
  tasks_.Add(task);
  absl::Status status =
      session->AddTask(task, std::move(prompt), std::move(kept));
  if (!status.ok()) {
    tasks_.Remove(*task);
    task->SetLane(nullptr);
    return status;
  }
  scheduler_.Wake(session);
  return absl::OkStatus();
}

void EngineImpl::StartOnCopy(const Session& session,
                             const std::shared_ptr<Task>& task,
                             const SessionState& state, int64_t next_offset,
                             std::string_view pending) {
  auto lane =
      std::make_shared<CopyLane>(session.served_ptr(), session.unit(),
                                 next_offset, pending, state.Clone(), task);
  task->SetLane(lane);
  scheduler_.Wake(std::move(lane));
}

absl::StatusOr<std::unique_ptr<Generation>> EngineImpl::Attach(
    const Session& session, const GenerateOptions& options,
    StreamListener* listener) {
  const absl::optional<KeptReply> kept = session.FindReply(options.request_id);
  if (!kept.has_value()) {
    if (options.output_offset == 0) return nullptr;
    // To begin again would give another answer at another offset.
    const int64_t next_offset = session.Info().next_offset;
    return WithReason(
        absl::OutOfRangeError(absl::StrCat(
            "output_offset: found ", options.output_offset,
            ", but no answer to the request_id is kept; the session is at ",
            next_offset)),
        {.reason = "OFFSET_NOT_KEPT",
         .metadata = {{"nearest_offset", absl::StrCat(next_offset)}}});
  }
  if (kept->request_digest != options.request_digest) {
    return WithReason(
        absl::InvalidArgumentError(
            "request_id: it came before with another request"),
        {.reason = "REQUEST_ID_REUSED", .metadata = {{"field", "request_id"}}});
  }
  MNEME_ASSIGN_OR_RETURN(std::shared_ptr<Reply::Reader> reader,
                         kept->reply->Attach(options.output_offset, listener));
  std::shared_ptr<GenerationTask> task = kept->task.lock();
  if (task != nullptr) WakeLane(scheduler_, *task);
  return std::make_unique<GenerationStream>(
      kept->reply, std::move(reader), std::move(task), &scheduler_, &tasks_);
}

absl::StatusOr<std::unique_ptr<Generation>> EngineImpl::Generate(
    const GenerateOptions& options, StreamListener* listener) {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                         FindSession(options.session, options.uid));
  const ServedModel& served = session->served();
  const std::string& model_name = served.name;
  const int64_t vocab_size = session->model().config().vocab_size;
  MNEME_RETURN_IF_ERROR(Rejected(model_name, CheckAdmitting()));
  MNEME_RETURN_IF_ERROR(CheckGenerate(options, session->unit(), vocab_size));
  if (!options.request_id.empty()) {
    MNEME_ASSIGN_OR_RETURN(std::unique_ptr<Generation> attached,
                           Attach(*session, options, listener));
    if (attached != nullptr) return attached;
  }

  GenerationTask::Setup setup{
      .model = session->served_ptr(),
      .unit = session->unit(),
      .clock = clock_,
      .observer = observer_,
      .on_unread_end = [this](const Task& task) { tasks_.Remove(task); }};
  std::string prompt;
  if (options.prompt.has_value()) {
    MNEME_RETURN_IF_ERROR(
        served.CheckInput(session->unit(), *options.prompt, "prompt"));
    prompt = PayloadBytes(*options.prompt);
  }
  if (options.sampling.seed.has_value()) {
    setup.seed = *options.sampling.seed;
  } else {
    absl::MutexLock lock(&mutex_);
    setup.seed = absl::Uniform<uint64_t>(random_);
  }
  const auto reply = std::make_shared<Reply>(
      Reply::Setup{.model = session->served_ptr(),
                   .unit = session->unit(),
                   .max_tokens = options.max_tokens,
                   .logprobs = options.logprobs,
                   .top_logprobs = options.top_logprobs,
                   .waits = options.on_disconnect == OnDisconnect::kCancel});
  setup.reply = reply;
  std::shared_ptr<Reply::Reader> reader = reply->Open(listener);
  GenerateOptions rest = options;
  rest.prompt.reset();  // the session has it
  auto task =
      std::make_shared<GenerationTask>(std::move(rest), std::move(setup));
  const absl::Status started = StartTask(
      session, task, std::move(prompt),
      Sampler::ScratchBytes(MakeSampling(options.sampling, 0), vocab_size),
      {.request_id = options.request_id,
       .request_digest = options.request_digest,
       .had_prompt = options.prompt.has_value(),
       .reply = reply,
       .task = task});
  if (absl::IsAlreadyExists(started)) {  // it came twice at once
    return Attach(*session, options, listener);
  }
  MNEME_RETURN_IF_ERROR(Rejected(model_name, started));
  return std::make_unique<GenerationStream>(
      reply, std::move(reader), std::move(task), &scheduler_, &tasks_);
}

absl::StatusOr<std::unique_ptr<Scoring>> EngineImpl::Score(
    const ScoreOptions& options, StreamListener* listener) {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                         FindSession(options.session, options.uid));
  const std::string& model_name = session->served().name;
  MNEME_RETURN_IF_ERROR(Rejected(model_name, CheckAdmitting()));
  auto task = std::make_shared<ScoringTask>(
      ScoringTask::Setup{.model = session->served_ptr(),
                         .unit = session->unit(),
                         .commit = options.commit,
                         .clock = clock_,
                         .observer = observer_},
      listener);
  MNEME_RETURN_IF_ERROR(Rejected(model_name, StartTask(session, task, "")));
  return std::make_unique<ScoringStream>(std::move(task), &scheduler_, &tasks_);
}

// -- The whole ---------------------------------------------------------------

absl::Status EngineImpl::SetSessionMemory(int64_t bytes) {
  if (bytes <= 0) {
    return BadField("session_memory_bytes",
                    absl::StrCat("found ", bytes, ", wanted 1 or more"));
  }
  if (budget_.SetLimit(bytes)) return absl::OkStatus();
  const std::string used = absl::StrCat(budget_.used_bytes());
  return WithReason(
      absl::FailedPreconditionError(
          absl::StrCat("session memory: ", used, " bytes are in use, found ",
                       bytes, "; delete sessions first")),
      {.reason = "BUDGET_IN_USE", .metadata = {{"used_bytes", used}}});
}

EngineStats EngineImpl::stats() const {
  EngineStats stats;
  stats.threads = threads_;
  stats.arithmetic_level = backend_->arithmetic_level();
  stats.session_memory_used_bytes = budget_.used_bytes();
  stats.session_memory_limit_bytes = budget_.limit_bytes();
  stats.waiting_sessions = scheduler_.waiting();
  stats.generations = tasks_.size();
  absl::MutexLock lock(&mutex_);
  for (const auto& [name, served] : models_) {
    if (served == nullptr) continue;
    const int64_t count = sessions_.CountOf(*served);
    stats.models.push_back(
        {.model = name,
         .sessions = count,
         .state_bytes = count * served->model->layout()->state_bytes()});
  }
  return stats;
}

int64_t EngineImpl::Drain(absl::Time deadline) {
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
  }
  const std::vector<std::shared_ptr<Task>> left = tasks_.AwaitNone(deadline);
  for (const std::shared_ptr<Task>& task : left) {
    task->Cancel();
    WakeLane(scheduler_, *task);
  }
  return static_cast<int64_t>(left.size());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineOptions& options) {
  if (options.threads < 0 || options.threads > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads is ", options.threads, ", want 0 to 1024"));
  }
  if (options.session_memory_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("session memory is ",
                                                   options.session_memory_bytes,
                                                   " bytes, want 0 or more"));
  }
  const int threads = options.threads > 0 ? options.threads : CoreCount();
  std::unique_ptr<Backend> backend;
  if (options.backend == "cpu") {
    backend = MakeCpuBackend(threads);
  } else if (options.backend == "reference") {
    backend = MakeReferenceBackend();
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "backend is \"", options.backend, "\", want \"cpu\" or \"reference\""));
  }
  EngineOptions settled = options;
  settled.threads = threads;
  return std::make_unique<EngineImpl>(settled, std::move(backend));
}

}  // namespace mneme
