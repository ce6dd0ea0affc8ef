// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

absl::Status TakenOver(const std::string& id, int64_t epoch) {
  return WithReason(
      absl::AbortedError(absl::StrCat("session ", id, " was taken over")),
      {.reason = "TAKEN_OVER", .metadata = {{"epoch", absl::StrCat(epoch)}}});
}

// As the contract spells what a task does.
const char* BusyName(SessionActivity activity) {
  switch (activity) {
    case SessionActivity::kScoring:
      return "SCORING";
    case SessionActivity::kCommittingSegment:
      return "COMMITTING_SEGMENT";
    default:
      return "GENERATING";
  }
}

absl::Status Deleted(const std::string& id) {
  return WithReason(
      absl::NotFoundError(absl::StrCat("session ", id, " was deleted")),
      {.reason = "SESSION_NOT_FOUND", .metadata = {}});
}

}  // namespace

// What a task that commits writes down goes straight into the account. Used
// under the session's mutex only.
class Session::Sink final : public HistorySink {
 public:
  explicit Sink(Session& session) : session_(session) {}

  int64_t next_offset() const override ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return session_.history_.next_offset();
  }
  void RecordToken(int32_t token, std::string_view bytes) override
      ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (session_.unit() == SessionUnit::kText) {
      session_.history_.Add(bytes);
      session_.input_.NoteSaid(token);
    } else {
      session_.history_.Add(TokenBytes({token}));
    }
  }

 private:
  Session& session_;
};

Session::Session(Setup setup, StartOnCopy start_on_copy)
    : setup_(std::move(setup)),
      start_on_copy_(std::move(start_on_copy)),
      create_time_(setup_.clock->Now()),
      labels_(setup_.labels),
      ttl_(setup_.ttl),
      update_time_(create_time_),
      history_(setup_.unit),
      input_(setup_.model.get(), setup_.unit) {
  absl::MutexLock lock(&mutex_);
  BeginHistory();
}

void Session::BeginHistory() {
  if (unit() == SessionUnit::kText) {
    const absl::optional<int32_t> bos = setup_.model->tokenizer->bos();
    if (bos.has_value()) setup_.state->PushToken(*bos);
  }
  CountTokens();
}

Session::~Session() {
  // What a lane and its task hold of each other, should they never be planned
  // again.
  for (const std::weak_ptr<Task>& copy : copies_) {
    const std::shared_ptr<Task> task = copy.lock();
    if (task != nullptr) task->SetLane(nullptr);
  }
}

int64_t Session::IndexBytes() {
  // The object with its kept history, its kept reply and pending text; ids and
  // labels are bounded, and the nodes of the tables that hold it round up.
  constexpr int64_t kNamesAndNodes = 16 << 10;
  return static_cast<int64_t>(sizeof(Session)) + History::kKeptBytes +
         Reply::kMaxBytes + InputQueue::kMaxPendingBytes + kNamesAndNodes;
}

absl::Status Session::CheckAlive() const {
  return deleted_ ? Deleted(id()) : absl::OkStatus();
}

int64_t Session::AbsorbedOffset() const {
  return history_.next_offset() -
         (input_.idle() ? 0 : input_.size() / history_.unit_bytes());
}

SessionInfo Session::InfoLocked() const {
  SessionInfo info;
  info.id = id();
  info.uid = uid();
  info.model = setup_.model->name;
  info.model_fingerprint = setup_.model->model->fingerprint();
  info.epoch = epoch_;
  info.unit = unit();
  info.position = position_;
  info.absorbed_offset = AbsorbedOffset();
  info.next_offset = history_.next_offset();
  info.pending_tokens = tail_tokens_;
  info.pending_bytes = input_.idle() ? input_.size() : 0;
  info.state_bytes = setup_.model->model->layout()->state_bytes();
  info.labels = labels_;
  info.create_time = create_time_;
  info.update_time = update_time_;
  info.expire_time = ExpireTime();
  info.revision = revision_;
  if (const Task* const writing = CommittingTask(); writing != nullptr) {
    info.activity = writing->activity();
  } else if (writer_ != nullptr) {
    info.activity = SessionActivity::kAppending;
  }
  return info;
}

SessionInfo Session::Info() const {
  absl::MutexLock lock(&mutex_);
  return InfoLocked();
}

absl::StatusOr<SessionInfo> Session::Update(
    const UpdateSessionOptions& options) {
  absl::MutexLock lock(&mutex_);
  MNEME_RETURN_IF_ERROR(CheckAlive());
  if (options.revision.has_value() && *options.revision != revision_) {
    return WithReason(absl::AbortedError(absl::StrCat(
                          "session ", id(), " was changed by someone else")),
                      {.reason = "ETAG_MISMATCH", .metadata = {}});
  }
  if (options.labels.has_value()) labels_ = *options.labels;
  if (options.ttl.has_value()) ttl_ = *options.ttl;
  ++revision_;
  update_time_ = setup_.clock->Now();
  return InfoLocked();
}

absl::Status Session::Reset(bool takeover) {
  std::shared_ptr<SessionWriter> fenced;
  std::vector<std::shared_ptr<Task>> ended;
  {
    absl::MutexLock lock(&mutex_);
    auto free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return deleted_ || !leased_;
    };
    mutex_.Await(absl::Condition(&free));
    MNEME_RETURN_IF_ERROR(CheckAlive());
    if (!takeover && (writer_ != nullptr || !tasks_.empty())) {
      return WithReason(absl::AbortedError(absl::StrCat(
                            "session ", id(), " is in use; want takeover")),
                        {.reason = "SESSION_BUSY", .metadata = {}});
    }
    ++epoch_;
    ++revision_;
    FenceWriter(fenced);
    Sink sink(*this);
    while (!tasks_.empty()) {
      tasks_.front()->Fail(TakenOver(id(), epoch_), sink, position_);
      PopTask(ended);
    }
    input_.Clear();
    kept_ = {};
    planned_ = false;
    history_ = History(unit());
    position_ = 0;
    tail_tokens_ = 0;
    stalled_ = false;
    update_time_ = setup_.clock->Now();
    leased_ = true;
  }
  setup_.model->model->ResetState(*setup_.state);
  {
    absl::MutexLock lock(&mutex_);
    BeginHistory();
    leased_ = false;
  }
  if (fenced != nullptr) fenced->notifier.Notify();
  for (const std::shared_ptr<Task>& task : ended) task->Notify();
  return absl::OkStatus();
}

absl::Time Session::ExpireTime() const {
  if (ttl_ == absl::ZeroDuration()) return absl::InfiniteFuture();
  const bool in_use =
      writer_ != nullptr || !tasks_.empty() ||
      std::any_of(copies_.begin(), copies_.end(),
                  [](const auto& copy) { return !copy.expired(); });
  return (in_use ? setup_.clock->Now() : update_time_) + ttl_;
}

absl::Time Session::ExpireIfDue(absl::Time now) {
  absl::MutexLock lock(&mutex_);
  const absl::Time due = ExpireTime();
  if (due > now) return due;
  if (leased_) return now + absl::Seconds(1);  // someone looks at it
  deleted_ = true;
  return absl::InfinitePast();
}

bool Session::WithState(
    absl::FunctionRef<void(const SessionState& state, std::string_view pending,
                           SessionInfo& info)>
        read,
    SessionInfo& info) {
  std::string pending;
  {
    auto readable = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return deleted_ || (!leased_ && (settled() || stalled_));
    };
    absl::MutexLock lock(&mutex_);
    ++readers_waiting_;
    mutex_.Await(absl::Condition(&readable));
    --readers_waiting_;
    if (deleted_) return false;
    leased_ = true;
    info = InfoLocked();
    // The account already holds what still waits in the queue.
    if (input_.idle()) {
      info.history_digest = history_.Digest();
      pending = std::string(input_.bytes());
    }
  }
  read(*setup_.state, pending, info);
  absl::MutexLock lock(&mutex_);
  leased_ = false;
  return true;
}

std::vector<std::shared_ptr<Task>> Session::Delete() {
  std::shared_ptr<SessionWriter> writer;
  std::vector<std::shared_ptr<Task>> running;
  {
    absl::MutexLock lock(&mutex_);
    deleted_ = true;
    kept_ = {};
    input_.Clear();
    input_.Reserve(0);
    writer = std::move(writer_);
    if (writer != nullptr) writer->status = Deleted(id());
    for (const std::weak_ptr<Task>& copy : copies_) {
      std::shared_ptr<Task> task = copy.lock();
      if (task == nullptr) continue;
      task->Abort(Deleted(id()));
      running.push_back(std::move(task));
    }
  }
  if (writer != nullptr) writer->notifier.Notify();
  return running;
}

void Session::CountTokens() {
  position_ = setup_.state->position();
  tail_tokens_ = static_cast<int64_t>(setup_.state->tail().size());
}

// -- Lane --------------------------------------------------------------------

int64_t Session::PullInput(bool ends) {
  SessionState& state = *setup_.state;
  int64_t absorbed = 0;
  while (state.tail_room() > 0) {
    const bool begins = unit() == SessionUnit::kText &&
                        setup_.model->TextBegins(state.position());
    const auto token = input_.Next(begins, ends);
    if (!token.has_value()) break;
    state.PushToken(token->id);
    ++absorbed;
  }
  CountTokens();
  return absorbed;
}

void Session::PopTask(std::vector<std::shared_ptr<Task>>& done) {
  tasks_.front()->SetLane(nullptr);
  done.push_back(std::move(tasks_.front()));
  tasks_.pop_front();
  asking_ = false;
  update_time_ = setup_.clock->Now();
}

void Session::DropAborted(std::vector<std::shared_ptr<Task>>& done) {
  Sink sink(*this);
  for (size_t i = 0; i < tasks_.size();) {
    const bool its_turn = i == 0 && asking_ && input_.idle();
    const absl::Status status = tasks_[i]->aborted(/*waiting=*/!its_turn);
    if (status.ok()) {
      ++i;
      continue;
    }
    tasks_[i]->Fail(status, sink, position_);
    // To the front, from where it is taken off.
    std::rotate(tasks_.begin(), tasks_.begin() + static_cast<int64_t>(i),
                tasks_.begin() + static_cast<int64_t>(i) + 1);
    const bool asking = i > 0 && asking_;
    PopTask(done);
    asking_ = asking;
  }
}

Demand Session::PlanLocked(int64_t& absorbed, bool& progress,
                           std::vector<std::shared_ptr<Task>>& done) {
  if (leased_) return {};
  SessionState& state = *setup_.state;
  Sink sink(*this);
  if (deleted_) {
    while (!tasks_.empty()) {
      tasks_.front()->Fail(Deleted(id()), sink, position_);
      PopTask(done);
    }
    return {};
  }
  DropAborted(done);
  while (!stalled_) {
    if (settled() && readers_waiting_ > 0) return {};
    const bool was_idle = input_.idle();
    const int64_t pulled = PullInput(/*ends=*/asking_);
    absorbed += pulled;
    if (asking_) tasks_.front()->CountPromptTokens(pulled);
    if (input_.idle() != was_idle) progress = true;
    if (!settled() && !(asking_ && input_.idle())) {
      task_pass_ = false;
      return ComputeTail(state);
    }
    if (tasks_.empty()) return {};
    const std::shared_ptr<Task> task = tasks_.front();
    if (!task->commits()) {
      tasks_.pop_front();
      copies_.push_back(task);
      start_on_copy_(*this, task, state, history_.next_offset(), input_);
      progress = true;  // the writer waited for it
      continue;
    }
    if (!asking_) {
      asking_ = true;
      task->Begin();
      const Prompt prompt = task->TakePrompt();
      history_.Add(prompt.bytes);
      input_.AppendPrompt(prompt);
      update_time_ = setup_.clock->Now();
      stalled_ = false;
      continue;
    }
    const Demand demand = task->Plan(state, sink);
    CountTokens();
    if (!task->done()) {
      task_pass_ = true;
      return demand;
    }
    PopTask(done);
  }
  return {};
}

Demand Session::Plan() {
  int64_t absorbed = 0;
  bool progress = false;  // besides
  std::vector<std::shared_ptr<Task>> done;
  Demand demand;
  std::shared_ptr<SessionWriter> writer;
  {
    absl::MutexLock lock(&mutex_);
    demand = PlanLocked(absorbed, progress, done);
    planned_ = demand.kind != Demand::Kind::kNone;
    if (absorbed > 0 || progress || !done.empty()) writer = writer_;
  }
  if (absorbed > 0) setup_.observer->OnAbsorbed(served().name, absorbed);
  for (const std::shared_ptr<Task>& task : done) task->Notify();
  if (writer != nullptr) writer->notifier.Notify();
  return demand;
}

bool Session::Begin() {
  absl::MutexLock lock(&mutex_);
  if (deleted_ || leased_ || !planned_) return false;
  planned_ = false;
  leased_ = true;
  return true;
}

void Session::Complete(const absl::Status& status, ConstRows logits) {
  std::shared_ptr<Task> task;  // whose pass it was
  {
    absl::MutexLock lock(&mutex_);
    if (task_pass_ && !tasks_.empty()) task = tasks_.front();
  }
  if (status.ok() && task != nullptr && logits.rows > 0) task->OnLogits(logits);

  std::shared_ptr<SessionWriter> failed_writer;
  std::vector<std::shared_ptr<Task>> done;
  {
    absl::MutexLock lock(&mutex_);
    SessionState& state = *setup_.state;
    Sink sink(*this);
    if (status.ok()) {
      state.Commit();
      if (task != nullptr) task->OnCommitted(state, sink);
    } else {
      state.Abandon();
      stalled_ = true;
      // None of them gets any further.
      while (!tasks_.empty()) {
        tasks_.front()->Fail(status, sink, position_);
        PopTask(done);
      }
      if (writer_ != nullptr) writer_->status = status;
      failed_writer = std::move(writer_);
      input_.Reserve(0);
    }
    CountTokens();
    update_time_ = setup_.clock->Now();
    leased_ = false;
  }
  if (task != nullptr) task->Notify();
  for (const std::shared_ptr<Task>& ended : done) ended->Notify();
  if (failed_writer != nullptr) failed_writer->notifier.Notify();
}

void Session::FenceWriter(std::shared_ptr<SessionWriter>& fenced) {
  fenced = std::move(writer_);
  if (fenced != nullptr) fenced->status = TakenOver(id(), epoch_);
  input_.Reserve(0);
}

// -- Tasks -------------------------------------------------------------------

const Task* Session::CommittingTask() const {
  for (const std::shared_ptr<Task>& task : tasks_) {
    if (task->commits()) return task.get();
  }
  return nullptr;
}

bool Session::Keeps(const std::string& request_id) const {
  return !request_id.empty() && kept_.request_id == request_id &&
         (kept_.had_prompt || !kept_.reply->NeverBegan());
}

absl::optional<KeptReply> Session::FindReply(
    const std::string& request_id) const {
  absl::MutexLock lock(&mutex_);
  if (!Keeps(request_id)) return absl::nullopt;
  return kept_;
}

absl::Status Session::AddTask(std::shared_ptr<Task> task, Prompt prompt,
                              KeptReply kept) {
  absl::MutexLock lock(&mutex_);
  MNEME_RETURN_IF_ERROR(CheckAlive());
  if (Keeps(kept.request_id)) {
    return absl::AlreadyExistsError("the answer to the request_id is kept");
  }
  MNEME_RETURN_IF_ERROR(input_.CheckPrompt(prompt));
  if (input_.NearLimit(prompt.bytes.size(), position_)) {
    InputQueue trial = input_;
    trial.AppendPrompt(prompt);
    MNEME_RETURN_IF_ERROR(trial.CheckLimit("prompt", position_));
  }
  const Task* const writing = CommittingTask();
  if (task->commits() && writing != nullptr) {
    const std::string busy = BusyName(writing->activity());
    return WithReason(
        absl::AbortedError(absl::StrCat(
            "session ", id(), " has another request that writes it: ", busy)),
        {.reason = "SESSION_BUSY", .metadata = {{"busy", busy}}});
  }
  copies_.erase(std::remove_if(copies_.begin(), copies_.end(),
                               [](const auto& copy) { return copy.expired(); }),
                copies_.end());
  if (tasks_.size() + copies_.size() >= kMaxTasks) {
    return WithReason(
        absl::ResourceExhaustedError(
            absl::StrCat("session ", id(), ": ", tasks_.size() + copies_.size(),
                         " requests wait or run already")),
        {.reason = "QUEUE_FULL", .metadata = {}});
  }
  task->SetPrompt(std::move(prompt));
  stalled_ = false;
  tasks_.push_back(std::move(task));
  if (!kept.request_id.empty()) kept_ = std::move(kept);
  return absl::OkStatus();
}

}  // namespace mneme
