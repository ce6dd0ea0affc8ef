// SPDX-License-Identifier: Apache-2.0
//
// The engine's streams: what is appended, generated, scored.
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/engine_impl.h"
#include "engine/model/model.h"
#include "engine/runtime/copy_lane.h"
#include "engine/runtime/generate_options_coding.h"
#include "engine/runtime/generation_task.h"
#include "engine/runtime/held_session.h"
#include "engine/runtime/replayed_tasks.h"
#include "engine/runtime/requests.h"
#include "engine/runtime/scoring_task.h"
#include "engine/runtime/segment_commit_task.h"

namespace mneme {

int64_t EngineImpl::StreamBytes(const Model& model) {
  return kStreamBytes + Sampler::ScratchBytes({.presence_penalty = 1,
                                               .penalty_window_tokens =
                                                   SessionState::kRecentTokens},
                                              model.config().vocab_size);
}

absl::StatusOr<std::unique_ptr<AppendStream>> EngineImpl::OpenAppend(
    const AppendOptions& options, StreamListener* listener) {
  MNEME_RETURN_IF_ERROR(Rejected("", CheckAdmitting()));
  MNEME_ASSIGN_OR_RETURN(
      Held held, HoldSession(options.session, options.uid, options.hold));
  absl::StatusOr<ByteBudget::Reservation> reservation =
      TakeRoom(*held.hold, kStreamBytes, "an append stream");
  if (!reservation.ok()) {
    return Rejected(held.session->model_name(), reservation.status());
  }
  AppendOptions wanted = options;
  wanted.hold = held.hold;
  AppendOpened opened;
  MNEME_ASSIGN_OR_RETURN(std::shared_ptr<SessionWriter> writer,
                         held.session->OpenWriter(wanted, listener, opened));
  scheduler_.Wake(held.session);
  return std::make_unique<SessionAppendStream>(
      std::move(held.session), std::move(held.hold), std::move(writer),
      std::move(opened), *std::move(reservation), &scheduler_);
}

absl::Status EngineImpl::StartTask(const Held& held,
                                   const std::shared_ptr<Task>& task,
                                   Prompt prompt, int64_t scratch_bytes,
                                   KeptReply kept) {
  const std::shared_ptr<Session>& session = held.session;
  const int64_t copy_bytes =
      task->commits() ? 0 : session->model().layout()->state_bytes();
  MNEME_ASSIGN_OR_RETURN(
      ByteBudget::Reservation reservation,
      TakeRoom(*held.hold, kStreamBytes + copy_bytes + scratch_bytes,
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
                             const InputQueue& pending) {
  auto lane =
      std::make_shared<CopyLane>(session.served_ptr(), session.unit(),
                                 next_offset, pending, state.Clone(), task);
  task->SetLane(lane);
  scheduler_.Wake(std::move(lane));
}

absl::StatusOr<std::unique_ptr<Generation>> EngineImpl::Attach(
    const Held& held, const GenerateOptions& options,
    StreamListener* listener) {
  Session& session = *held.session;
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
  session.ResumeGeneration(options.request_id);
  // The generation has its own.
  static_cast<HeldSession&>(*held.hold).TakeRoom().Release();
  std::shared_ptr<GenerationTask> task = kept->task.lock();
  if (task != nullptr) WakeLane(scheduler_, *task);
  return std::make_unique<GenerationStream>(held.hold, kept->reply,
                                            std::move(reader), std::move(task),
                                            &scheduler_, &tasks_);
}

absl::StatusOr<std::unique_ptr<Generation>> EngineImpl::Generate(
    const GenerateOptions& options, StreamListener* listener) {
  MNEME_RETURN_IF_ERROR(Rejected("", CheckAdmitting()));
  MNEME_ASSIGN_OR_RETURN(
      const Held held, HoldSession(options.session, options.uid, options.hold));
  const std::shared_ptr<Session>& session = held.session;
  const ServedModel& served = session->served();
  const std::string& model_name = served.name;
  const int64_t vocab_size = session->model().config().vocab_size;
  MNEME_RETURN_IF_ERROR(CheckGenerate(options, session->unit(), vocab_size));
  if (!options.request_id.empty()) {
    MNEME_ASSIGN_OR_RETURN(std::unique_ptr<Generation> attached,
                           Attach(held, options, listener));
    if (attached != nullptr) return attached;
  }

  GenerationTask::Setup setup{
      .model = session->served_ptr(),
      .unit = session->unit(),
      .load = held.hold->report(),
      .clock = clock_,
      .observer = observer_,
      .on_unread_end = [this](const Task& task) { tasks_.Remove(task); }};
  Prompt prompt{.role = options.role, .asks = true};
  if (options.prompt.has_value()) {
    MNEME_RETURN_IF_ERROR(
        served.CheckInput(session->unit(), *options.prompt, "prompt"));
    prompt.bytes = PayloadBytes(*options.prompt);
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
  rest.hold.reset();    // the stream has it
  auto task =
      std::make_shared<GenerationTask>(std::move(rest), std::move(setup));
  const absl::Status started = StartTask(
      held, task, std::move(prompt),
      Sampler::ScratchBytes(MakeSampling(options.sampling, 0), vocab_size),
      {.request_id = options.request_id,
       .request_digest = options.request_digest,
       .had_prompt = options.prompt.has_value(),
       .reply = reply,
       .task = task});
  if (absl::IsAlreadyExists(started)) {  // it came twice at once
    MNEME_ASSIGN_OR_RETURN(std::unique_ptr<Generation> attached,
                           Attach(held, options, listener));
    if (attached != nullptr) return attached;
    return WithReason(
        absl::AbortedError("the generation of the same request_id, which came "
                           "at the same time, ended before it began"),
        {.reason = "SESSION_BUSY", .metadata = {{"busy", "GENERATING"}}});
  }
  MNEME_RETURN_IF_ERROR(Rejected(model_name, started));
  return std::make_unique<GenerationStream>(held.hold, reply, std::move(reader),
                                            std::move(task), &scheduler_,
                                            &tasks_);
}

absl::StatusOr<std::unique_ptr<Scoring>> EngineImpl::Score(
    const ScoreOptions& options, StreamListener* listener) {
  MNEME_RETURN_IF_ERROR(Rejected("", CheckAdmitting()));
  MNEME_ASSIGN_OR_RETURN(
      const Held held, HoldSession(options.session, options.uid, options.hold));
  const std::shared_ptr<Session>& session = held.session;
  const std::string& model_name = session->model_name();
  auto task = std::make_shared<ScoringTask>(
      ScoringTask::Setup{.model = session->served_ptr(),
                         .unit = session->unit(),
                         .commit = options.commit,
                         .request = options.request,
                         .load = held.hold->report(),
                         .clock = clock_,
                         .observer = observer_},
      listener);
  MNEME_RETURN_IF_ERROR(Rejected(model_name, StartTask(held, task, {})));
  return std::make_unique<ScoringStream>(held.hold, std::move(task),
                                         &scheduler_, &tasks_);
}

absl::Status EngineImpl::StartSegmentCommit(const Held& held,
                                            const SegmentCommitOptions& options,
                                            const Done<SegmentCommit>& done) {
  const ServedModel& served = held.session->served();
  if (!served.model->commits_segments()) {
    return WithReason(
        absl::UnimplementedError(
            absl::StrCat("model ", served.name, ": its memory, ",
                         absl::StrJoin(served.model->mixer_kinds(), ", "),
                         ", has no segment that could be committed early")),
        {.reason = "NOT_SUPPORTED",
         .metadata = {{"method", "mneme.v1.Memory/CommitSegment"}}});
  }
  auto task = std::make_shared<SegmentCommitTask>(
      served.model, held.hold->report(), options.request,
      [this, done, hold = held.hold](const Task& ended,
                                     absl::StatusOr<SegmentCommit> outcome) {
        tasks_.Remove(ended);
        done(std::move(outcome));
      });
  return Rejected(served.name, StartTask(held, task, {}));
}

void EngineImpl::CommitSegment(const SegmentCommitOptions& options,
                               Done<SegmentCommit> done) {
  const absl::Status admitted = Rejected("", CheckAdmitting());
  if (!admitted.ok()) {
    done(admitted);
    return;
  }
  Load(options.session, options.uid,
       [this, options,
        done](const absl::StatusOr<std::shared_ptr<SessionHold>>& hold) {
         if (!hold.ok()) {
           done(hold.status());
           return;
         }
         const absl::StatusOr<Held> held =
             HoldSession(options.session, options.uid, *hold);
         const absl::Status started =
             held.ok() ? StartSegmentCommit(*held, options, done)
                       : held.status();
         if (!started.ok()) done(started);
       });
}

// -- Replayed ----------------------------------------------------------------

absl::StatusOr<SessionHost::Replayed> EngineImpl::Replay(
    const Session& session, const AskRecord& ask, ReplayedTask replayed) {
  switch (ask.kind) {
    case AskRecord::Kind::kScore:
      return Replayed{
          .task = std::make_shared<ReplayedScoring>(std::move(replayed))};
    case AskRecord::Kind::kCommitSegment:
      if (replayed.end.has_value() && replayed.end->status_code != 0) {
        return Replayed{
            .task = std::make_shared<ReplayedScoring>(std::move(replayed))};
      }
      return Replayed{
          .task = std::make_shared<SegmentCommitTask>(
              session.served().model, LoadReport{}, RequestTag<SegmentCommit>{},
              [](const Task&, const absl::StatusOr<SegmentCommit>&) {})};
    case AskRecord::Kind::kGenerate:
      break;
  }
  MNEME_ASSIGN_OR_RETURN(
      GenerateOptions options,
      DecodeGenerateOptions(ask.options, session.unit(),
                            session.model().config().vocab_size));
  options.request_id = ask.request_id;
  options.request_digest = ask.request_digest;
  const auto reply = std::make_shared<Reply>(
      Reply::Setup{.model = session.served_ptr(),
                   .unit = session.unit(),
                   .max_tokens = options.max_tokens,
                   .logprobs = options.logprobs,
                   .top_logprobs = options.top_logprobs,
                   .waits = options.on_disconnect == OnDisconnect::kCancel,
                   .said_again = true});
  GenerationTask::Setup setup{
      .model = session.served_ptr(),
      .unit = session.unit(),
      .seed = options.sampling.seed.value_or(0),
      .reply = reply,
      .clock = clock_,
      .observer = observer_,
      .replayed = std::move(replayed),
      .on_unread_end = [this](const Task& task) { tasks_.Remove(task); }};
  auto task = std::make_shared<GenerationTask>(options, std::move(setup));
  Replayed made{.task = task};
  if (!ask.request_id.empty()) {
    made.kept = {.request_id = ask.request_id,
                 .request_digest = ask.request_digest,
                 .had_prompt = !ask.prompt.empty(),
                 .reply = reply,
                 .task = task};
  }
  return made;
}

}  // namespace mneme
