// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/runtime/replayed_tasks.h"

namespace mneme {
namespace {

// Whether it fails as often as it is tried, as it did when it was new.
bool FailsAgain(const absl::Status& status) {
  const absl::optional<ErrorReason> reason = GetReason(status);
  return reason.has_value() && reason->reason == "NOT_FINITE";
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

absl::Status TakenOver(const std::string& id, int64_t epoch) {
  return WithReason(
      absl::AbortedError(absl::StrCat("session ", id, " was taken over")),
      {.reason = "TAKEN_OVER", .metadata = {{"epoch", absl::StrCat(epoch)}}});
}

std::string ModelKey(const ServedModel& model) {
  return absl::StrCat(model.name, "/", model.model->fingerprint());
}

// What a task that commits writes down goes straight into the account. Used
// under the session's mutex only.
class Session::Sink final : public HistorySink {
 public:
  explicit Sink(Session& session) : session_(session) {}

  int64_t next_offset() const override ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return session_.hot_->history.next_offset();
  }
  void RecordToken(int32_t token, std::string_view bytes) override
      ABSL_NO_THREAD_SAFETY_ANALYSIS {
    Hot& hot = *session_.hot_;
    std::string counted = session_.unit() == SessionUnit::kText
                              ? std::string(bytes)
                              : TokenBytes({token});
    hot.history.Add(counted);
    if (session_.unit() == SessionUnit::kText) hot.input.NoteSaid(token);
    if (!hot.replay.has_value()) {
      session_.said_.push_back({.id = token, .bytes = std::move(counted)});
    }
  }

 private:
  Session& session_;
};

Session::Session(Setup setup)
    : id_(setup.stored.record.id),
      uid_(setup.stored.record.uid),
      unit_(setup.stored.record.counts_tokens ? SessionUnit::kTokens
                                              : SessionUnit::kText),
      model_name_(setup.stored.record.model),
      model_key_(absl::StrCat(model_name_, "/",
                              setup.stored.record.model_fingerprint)),
      index_(std::move(setup.index)),
      counted_(std::move(setup.counted)),
      limits_(setup.limits),
      store_(setup.store),
      host_(setup.host),
      clock_(setup.clock),
      observer_(setup.observer),
      model_(std::move(setup.model)),
      record_(std::move(setup.stored.record)) {
  absl::MutexLock lock(&mutex_);
  RestAt(record_, setup.stored.journal);
}

Session::~Session() {
  // What a lane and its task hold of each other, should they never be planned
  // again.
  for (const std::weak_ptr<Task>& copy : copies_) {
    const std::shared_ptr<Task> task = copy.lock();
    if (task != nullptr) task->SetLane(nullptr);
  }
}

int64_t Session::IndexBytes(const SessionRecord& record) {
  // The object with its record, twice while one is on its way to the store,
  // and the nodes of the tables that hold it.
  constexpr int64_t kNodes = 512;
  constexpr int64_t kSnapshotBytes = sizeof(StoredSnapshot) + 4 * 80;
  int64_t bytes = static_cast<int64_t>(sizeof(Session)) + kNodes +
                  2 * static_cast<int64_t>(record.id.size()) +
                  static_cast<int64_t>(record.model.size());
  for (const auto& [key, value] : record.labels) {
    bytes += static_cast<int64_t>(key.size() + value.size()) + 96;
  }
  bytes += static_cast<int64_t>(record.ring.size() + record.named.size() + 2) *
           kSnapshotBytes;
  return bytes;
}

int64_t Session::HotBytes(const ServedModel& model) {
  constexpr int64_t kSmallThings = 16 << 10;
  return model.model->layout()->state_bytes() + History::kKeptBytes +
         Reply::kMaxBytes + InputQueue::kMaxPendingBytes +
         static_cast<int64_t>(sizeof(Hot)) + kSmallThings;
}

absl::Status Session::CheckAlive() const {
  return deleted_ ? Deleted(id()) : absl::OkStatus();
}

absl::Status Session::CheckHot() const {
  MNEME_RETURN_IF_ERROR(CheckAlive());
  if (hot_ != nullptr && place_ == Place::kHot) return absl::OkStatus();
  return WithReason(
      absl::UnavailableError(absl::StrCat(
          "session ", id(), " lost what was not stored and is loaded anew")),
      {.reason = "STORE_UNAVAILABLE", .metadata = {}});
}

int64_t Session::NextOffset() const {
  return hot_ != nullptr ? hot_->history.next_offset() : reach_.next_offset;
}

int64_t Session::AbsorbedOffset() const {
  if (hot_ == nullptr) return reach_.absorbed_offset;
  return hot_->history.next_offset() -
         (hot_->input.idle() ? 0
                             : hot_->input.size() / hot_->history.unit_bytes());
}

SessionInfo Session::InfoLocked() const {
  const bool hot = hot_ != nullptr && place_ != Place::kLoading;
  SessionInfo info;
  info.id = id();
  info.uid = uid();
  info.model = model_name_;
  info.model_fingerprint = record_.model_fingerprint;
  info.epoch = record_.epoch;
  info.unit = unit();
  info.position = reach_.position;
  info.absorbed_offset = hot ? AbsorbedOffset() : reach_.absorbed_offset;
  info.next_offset = hot ? NextOffset() : reach_.next_offset;
  info.durability = store_->durable() ? Durability::kSynced : Durability::kNone;
  if (store_->durable()) info.durable_offset = reach_.durable_offset;
  info.pending_tokens = reach_.tail_tokens;
  info.pending_bytes = reach_.pending_bytes;
  if (hot) info.pending_bytes = hot_->input.idle() ? hot_->input.size() : 0;
  if (model_ != nullptr) {
    info.state_bytes = model_->model->layout()->state_bytes();
  }
  info.labels = record_.labels;
  info.create_time = record_.create_time;
  info.update_time = record_.update_time;
  info.expire_time = ExpireTime();
  info.revision = record_.revision;
  info.tier = hot ? StateTier::kHot : StateTier::kCold;
  info.snapshot_interval_tokens = record_.snapshot_interval_tokens;
  info.pinned = record_.pinned;
  info.quarantine = record_.quarantine;
  if (!record_.quarantine.empty()) {
    info.condition = SessionCondition::kQuarantined;
  }
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

SessionRecord Session::record() const {
  absl::MutexLock lock(&mutex_);
  return record_;
}

bool Session::InfoAtRest(SessionInfo& info) const {
  absl::MutexLock lock(&mutex_);
  info = InfoLocked();
  if (place_ != Place::kCold || !record_.quarantine.empty()) {
    return place_ == Place::kCold;
  }
  if (!KeepsAll(next_seq_)) return false;
  info.state_digest = record_.ring.back().state_digest;
  info.history_digest = record_.ring.back().history_digest;
  return true;
}

void Session::Tell(SessionEvent::Kind kind, std::string detail,
                   Afterwards& after) {
  if (!events_.watched()) return;
  after.events.push_back({.kind = kind,
                          .time = clock_->Now(),
                          .session = InfoLocked(),
                          .detail = std::move(detail)});
}

void Session::Do(Afterwards& after) {
  if (after.absorbed > 0) {
    observer_->OnAbsorbed(model_name_, after.absorbed);
  }
  for (const SessionEvent& event : after.events) events_.Publish(event);
  for (const std::shared_ptr<Task>& task : after.tasks) task->Notify();
  if (after.writer != nullptr) after.writer->notifier.Notify();
  for (const std::function<void()>& call : after.calls) call();
  if (after.wake) host_->Wake(shared_from_this());
  if (after.snapshot_due) host_->OnSnapshotDue(shared_from_this());
  if (after.idle) host_->OnIdle(shared_from_this());
}

absl::Time Session::ExpireTime() const {
  if (record_.ttl == absl::ZeroDuration()) return absl::InfiniteFuture();
  const bool in_use =
      writer_ != nullptr || !tasks_.empty() ||
      std::any_of(copies_.begin(), copies_.end(),
                  [](const auto& copy) { return !copy.expired(); });
  return (in_use ? clock_->Now() : record_.update_time) + record_.ttl;
}

absl::Time Session::ExpireIfDue(absl::Time now) {
  absl::MutexLock lock(&mutex_);
  const absl::Time due = ExpireTime();
  if (due > now) return due;
  if (leased_ || place_ == Place::kLoading) {
    return now + absl::Seconds(1);  // someone looks at it
  }
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
      return deleted_ || place_ != Place::kHot ||
             (!leased_ && (settled() || stalled_));
    };
    absl::MutexLock lock(&mutex_);
    ++readers_waiting_;
    mutex_.Await(absl::Condition(&readable));
    --readers_waiting_;
    if (deleted_ || place_ != Place::kHot) return false;
    leased_ = true;
    info = InfoLocked();
    // The account already holds what still waits in the queue.
    if (hot_->input.idle()) {
      info.history_digest = hot_->history.Digest();
      pending = std::string(hot_->input.bytes());
    }
  }
  read(*hot_->state, pending, info);
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    EndLease(after);
  }
  Do(after);
  return true;
}

std::vector<std::shared_ptr<Task>> Session::Delete(SessionEvent::Kind kind) {
  std::vector<std::shared_ptr<Task>> running;
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    Tell(kind, "", after);
    deleted_ = true;
    if (hot_ != nullptr && !leased_) {
      hot_->kept = {};
      hot_->input.Clear();
    }
    FenceWriter(Deleted(id()), after);
    AnswerWaiters(Deleted(id()), after);
    for (std::function<void(absl::Status)>& work : quiet_) {
      after.calls.push_back(
          [work = std::move(work), status = Deleted(id())] { work(status); });
    }
    quiet_.clear();
    for (const std::weak_ptr<Task>& copy : copies_) {
      std::shared_ptr<Task> task = copy.lock();
      if (task == nullptr) continue;
      task->Abort(Deleted(id()));
      running.push_back(std::move(task));
    }
    after.wake = true;
  }
  Do(after);
  return running;
}

void Session::CountTokens() {
  reach_.position = hot_->state->position();
  reach_.tail_tokens = static_cast<int64_t>(hot_->state->tail().size());
}

// -- Lane --------------------------------------------------------------------

int64_t Session::PullInput(bool ends) {
  SessionState& state = *hot_->state;
  int64_t absorbed = 0;
  while (state.tail_room() > 0) {
    const bool begins =
        unit() == SessionUnit::kText && model_->TextBegins(state.position());
    const auto token = hot_->input.Next(begins, ends);
    if (!token.has_value()) break;
    state.PushToken(token->id);
    ++absorbed;
  }
  CountTokens();
  return absorbed;
}

void Session::PopTask(Afterwards& after) {
  std::shared_ptr<Task> task = std::move(tasks_.front());
  tasks_.erase(tasks_.begin());
  task->SetLane(nullptr);
  const bool journaled = asking_ != Asking::kNo;
  asking_ = Asking::kNo;
  record_.update_time = clock_->Now();
  if (task->commits() && journaled && !deleted_ && !hot_->replay.has_value() &&
      owed_ != task.get()) {
    JournalSaid(task.get());
    endings_.push_back({.seq = next_seq_ - 1, .task = std::move(task)});
    return;
  }
  if (owed_ == task.get()) owed_ = nullptr;
  task->Settle(absl::OkStatus(), reach_.durable_offset);
  after.tasks.push_back(std::move(task));
}

void Session::FailTasks(const absl::Status& status, Afterwards& after) {
  Sink sink(*this);
  const Asking asking = asking_;
  std::shared_ptr<Task> owed;
  if (!tasks_.empty() && asking != Asking::kNo && !tasks_.front()->asked() &&
      !deleted_) {
    // What the journal says of it counts.
    owed = std::make_shared<OwedAsk>();
    owed->SetPrompt(tasks_.front()->TakePrompt());
  }
  while (!tasks_.empty()) {
    tasks_.front()->Fail(status, sink, reach_.position);
    PopTask(after);
  }
  if (owed == nullptr) return;
  owed_ = owed.get();
  asking_ = asking;
  tasks_.push_back(std::move(owed));
}

void Session::AbandonTasks(const absl::Status& status,
                           const absl::Status& stored, Afterwards& after) {
  Sink sink(*this);
  for (const std::shared_ptr<Task>& task : tasks_) {
    if (hot_ != nullptr) task->Fail(status, sink, reach_.position);
    task->SetLane(nullptr);
    task->Settle(stored, stored.ok() ? reach_.durable_offset : 0);
    after.tasks.push_back(task);
  }
  tasks_.clear();
  owed_ = nullptr;
  asking_ = Asking::kNo;
  planned_ = false;
}

void Session::AbandonSuspended(Afterwards& after) {
  if (hot_->suspended == nullptr) return;
  Sink sink(*this);
  hot_->suspended->Fail(absl::CancelledError("it was cut off"), sink,
                        reach_.position);
  hot_->suspended->Settle(absl::OkStatus(), reach_.durable_offset);
  after.tasks.push_back(std::exchange(hot_->suspended, nullptr));
}

void Session::DropAborted(Afterwards& after) {
  Sink sink(*this);
  for (size_t i = 0; i < tasks_.size();) {
    const bool its_turn = i == 0 && asking_ != Asking::kNo;
    const absl::Status status = tasks_[i]->aborted(/*waiting=*/!its_turn);
    if (status.ok() || its_turn) {
      ++i;
      continue;
    }
    const std::shared_ptr<Task> task = tasks_[i];
    task->Fail(status, sink, reach_.position);
    task->SetLane(nullptr);
    task->Settle(absl::OkStatus(), reach_.durable_offset);
    tasks_.erase(tasks_.begin() + static_cast<int64_t>(i));
    after.tasks.push_back(task);
  }
}

bool Session::BeginTask(Afterwards& after) {
  Task& task = *tasks_.front();
  if (asking_ == Asking::kNo && !hot_->replay.has_value()) {
    AskRecord ask = task.DescribeAsk();
    const Prompt& prompt = task.prompt();
    ask.position = hot_->state->position();
    ask.prompt = prompt.bytes;
    ask.prompt_role = prompt.role;
    ask.begins_reply = prompt.asks;
    const int64_t units =
        static_cast<int64_t>(prompt.bytes.size()) / hot_->history.unit_bytes();
    asking_ = Asking::kJournaling;
    Journal(std::move(ask), units);
    ask_seq_ = next_seq_ - 1;
    return false;
  }
  if (asking_ == Asking::kJournaling) return false;
  asking_ = Asking::kYes;
  task.Begin();
  const Prompt prompt = task.TakePrompt();
  hot_->history.Add(prompt.bytes);
  hot_->input.AppendPrompt(prompt);
  record_.update_time = clock_->Now();
  after.progress = true;
  return true;
}

bool Session::BeginQuiet(Afterwards& after) {
  if (quiet_.empty() || leased_ || hot_->replay.has_value()) return false;
  leased_ = true;
  after.calls.push_back(
      [this, self = shared_from_this(), work = std::move(quiet_.front())] {
        host_->Post([self, work] {
          work(absl::OkStatus());
          self->EndQuiet();
        });
      });
  quiet_.erase(quiet_.begin());
  return true;
}

void Session::EndQuiet() {
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    EndLease(after);
    after.wake = true;
  }
  Do(after);
}

void Session::EndLease(Afterwards& after) {
  leased_ = false;
  if (!broken_.ok()) Break(std::exchange(broken_, absl::OkStatus()), after);
  if (!InUse() && holds_ == 0) after.idle = true;
}

Demand Session::PlanLocked(Afterwards& after) {
  if (leased_ || hot_ == nullptr) return {};
  if (deleted_) {
    FailTasks(Deleted(id()), after);
    return {};
  }
  SessionState& state = *hot_->state;
  Sink sink(*this);
  DropAborted(after);
  while (true) {
    const bool replays = hot_->replay.has_value();
    if (stalled_) {
      if (replays && AdvanceReplay(after)) continue;
      if (hot_ != nullptr && !hot_->replay.has_value()) BeginQuiet(after);
      return {};
    }
    if (settled() && readers_waiting_ > 0) return {};
    const bool was_idle = hot_->input.idle();
    const bool asking = asking_ == Asking::kYes;
    const int64_t pulled = PullInput(/*ends=*/asking);
    if (!replays) after.absorbed += pulled;
    if (asking) tasks_.front()->CountPromptTokens(pulled);
    if (hot_->input.idle() != was_idle) after.progress = true;
    if (!settled() && !(asking && hot_->input.idle())) {
      task_pass_ = false;
      return ComputeTail(state);
    }
    if (tasks_.empty() && replays) {
      if (AdvanceReplay(after)) continue;
      return {};  // it is hot now, or cold again; who waited wakes it
    }
    if (asking_ == Asking::kNo && BeginQuiet(after)) return {};
    if (tasks_.empty()) return {};
    const std::shared_ptr<Task> task = tasks_.front();
    if (!task->commits()) {
      tasks_.erase(tasks_.begin());
      copies_.push_back(task);
      host_->StartOnCopy(*this, task, state, hot_->history.next_offset(),
                         hot_->input);
      after.progress = true;  // the writer waited for it
      continue;
    }
    if (!asking) {
      if (!BeginTask(after)) return {};
      continue;
    }
    const Demand demand = task->Plan(state, sink);
    CountTokens();
    if (said_.size() >= kSaidTogether) JournalSaid(nullptr);
    if (task->suspended()) {
      hot_->suspended = task;
      tasks_.erase(tasks_.begin());
      asking_ = Asking::kNo;
      continue;
    }
    if (!task->done()) {
      task_pass_ = true;
      return demand;
    }
    PopTask(after);
  }
}

Demand Session::Plan() {
  Afterwards after;
  Demand demand;
  {
    absl::MutexLock lock(&mutex_);
    demand = PlanLocked(after);
    planned_ = !demand.none();
    if (after.absorbed > 0 || after.progress || !after.tasks.empty()) {
      after.writer = writer_;
    }
    if (hot_ != nullptr && demand.none()) {
      if (SnapshotDue()) after.snapshot_due = snapshot_wanted_ = true;
      if (!InUse() && holds_ == 0) after.idle = true;
    }
  }
  Do(after);
  return demand;
}

bool Session::Begin() {
  absl::MutexLock lock(&mutex_);
  if (deleted_ || leased_ || !planned_ || hot_ == nullptr) return false;
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

  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    SessionState& state = *hot_->state;
    Sink sink(*this);
    if (status.ok()) {
      state.Commit();
      if (task != nullptr) task->OnCommitted(state, sink);
      if (said_.size() >= kSaidTogether) JournalSaid(nullptr);
    } else {
      state.Abandon();
      stalled_ = true;
      // None of them gets any further.
      FailTasks(status, after);
      FenceWriter(status, after);
    }
    CountTokens();
    record_.update_time = clock_->Now();
    if (task != nullptr) after.tasks.push_back(task);
    if (!status.ok() && hot_->replay.has_value() && !FailsAgain(status)) {
      FinishReplay(status, after);
    }
    EndLease(after);
    if (hot_ != nullptr && SnapshotDue()) {
      after.snapshot_due = snapshot_wanted_ = true;
    }
  }
  Do(after);
}

void Session::FenceWriter(const absl::Status& status, Afterwards& after) {
  if (hot_ != nullptr) hot_->input.Reserve(0);
  if (writer_ == nullptr) return;
  writer_->status = status;
  std::shared_ptr<SessionWriter> fenced = std::move(writer_);
  after.calls.push_back([fenced] { fenced->notifier.Notify(); });
}

// -- Tasks -------------------------------------------------------------------

const Task* Session::CommittingTask() const {
  for (const std::shared_ptr<Task>& task : tasks_) {
    if (task->commits() && task.get() != owed_) return task.get();
  }
  return nullptr;
}

bool Session::Keeps(const std::string& request_id) const {
  const KeptReply& kept = hot_->kept;
  return !request_id.empty() && kept.request_id == request_id &&
         (kept.had_prompt || !kept.reply->NeverBegan());
}

absl::optional<KeptReply> Session::FindReply(
    const std::string& request_id) const {
  absl::MutexLock lock(&mutex_);
  if (hot_ == nullptr || !Keeps(request_id)) return absl::nullopt;
  return hot_->kept;
}

absl::Status Session::AddTask(std::shared_ptr<Task> task, Prompt prompt,
                              KeptReply kept) {
  Afterwards after;
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = AddTaskLocked(std::move(task), std::move(prompt), std::move(kept),
                           after);
  }
  Do(after);
  return status;
}

absl::Status Session::AddTaskLocked(std::shared_ptr<Task> task, Prompt prompt,
                                    KeptReply kept, Afterwards& after) {
  MNEME_RETURN_IF_ERROR(CheckHot());
  if (Keeps(kept.request_id)) {
    return absl::AlreadyExistsError("the answer to the request_id is kept");
  }
  const InputQueue& input = hot_->input;
  MNEME_RETURN_IF_ERROR(input.CheckPrompt(prompt));
  if (input.NearLimit(prompt.bytes.size(), reach_.position)) {
    InputQueue trial = input;
    trial.AppendPrompt(prompt);
    MNEME_RETURN_IF_ERROR(trial.CheckLimit("prompt", reach_.position));
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
  // What a crash cut off ends here.
  if (task->commits()) ResumeSuspended(/*cancel=*/true, after);
  task->SetPrompt(std::move(prompt));
  stalled_ = false;
  tasks_.push_back(std::move(task));
  if (!kept.request_id.empty()) hot_->kept = std::move(kept);
  return absl::OkStatus();
}

}  // namespace mneme
