// SPDX-License-Identifier: Apache-2.0
//
// What a session wants computed, and what becomes of it: its lane, and the
// tasks that take their turn there.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/runtime/replayed_tasks.h"
#include "engine/runtime/session.h"

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

}  // namespace

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

void Session::CountTokens() {
  reach_.position = hot_->state->position();
  reach_.tail_tokens = static_cast<int64_t>(hot_->state->tail().size());
}

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
  NoteUse();
  if (owed_ == task.get()) owed_ = nullptr;
  if (task->commits() && journaled && !deleted_ && !hot_->replay.has_value() &&
      task->ends_in_journal()) {
    JournalSaid(task.get());
    endings_.push_back({.seq = writes_.end().seq - 1, .task = std::move(task)});
    return;
  }
  task->Settle(absl::OkStatus(), writes_.durable().offset);
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
    task->Settle(stored, stored.ok() ? writes_.durable().offset : 0);
    after.tasks.push_back(task);
  }
  tasks_.clear();
  owed_ = nullptr;
  asking_ = Asking::kNo;
  planned_ = false;
}

void Session::CutOffTasks(Afterwards& after) {
  if (!said_.empty()) JournalSaid(nullptr);
  AbandonTasks(closed_, absl::OkStatus(), after);
}

void Session::AbandonSuspended(Afterwards& after) {
  if (hot_->suspended == nullptr) return;
  Sink sink(*this);
  hot_->suspended->Fail(absl::CancelledError("it was cut off"), sink,
                        reach_.position);
  hot_->suspended->Settle(absl::OkStatus(), writes_.durable().offset);
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
    task->Settle(absl::OkStatus(), writes_.durable().offset);
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
    ask_seq_ = writes_.end().seq - 1;
    return false;
  }
  if (asking_ == Asking::kJournaling) return false;
  asking_ = Asking::kYes;
  task.Begin();
  const Prompt prompt = task.TakePrompt();
  hot_->history.Add(prompt.bytes);
  hot_->input.AppendPrompt(prompt);
  NoteUse();
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
  if (Idle()) after.idle = true;
}

Demand Session::PlanLocked(Afterwards& after) {
  if (leased_ || hot_ == nullptr) return {};
  if (deleted_) {
    FailTasks(CheckAlive(), after);
    return {};
  }
  SessionState& state = *hot_->state;
  Sink sink(*this);
  DropAborted(after);
  if (!closed_.ok() && (hot_->replay.has_value() || asking_ == Asking::kNo)) {
    if (!hot_->replay.has_value()) CutOffTasks(after);
    return {};
  }
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
      if (!closed_.ok()) break;
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
      if (!closed_.ok()) break;
      task_pass_ = true;
      return demand;
    }
    PopTask(after);
  }
  CutOffTasks(after);  // they would need another pass to come to an end
  return {};
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
      if (Idle()) after.idle = true;
    }
  }
  Do(after);
  return demand;
}

bool Session::Begin() {
  absl::MutexLock lock(&mutex_);
  if (deleted_ || leased_ || !planned_ || hot_ == nullptr || !closed_.ok()) {
    return false;
  }
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
    NoteUse();
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

// -- Tasks -------------------------------------------------------------------

const Task* Session::CommittingTask() const {
  for (const std::shared_ptr<Task>& task : tasks_) {
    if (task->commits() && task.get() != owed_) return task.get();
  }
  return nullptr;
}

std::string Session::Busy() const {
  const Task* task = CommittingTask();
  if (task == nullptr && writer_ != nullptr) return "APPENDING";
  if (task == nullptr) task = tasks_.front().get();
  return BusyName(task->activity());
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
    const std::string busy = Busy();
    return WithReason(
        absl::AbortedError(absl::StrCat(
            "session ", id(), " has another request that writes it: ", busy)),
        {.reason = "SESSION_BUSY", .metadata = {{"busy", busy}}});
  }
  if (task->commits()) {
    MNEME_RETURN_IF_ERROR(
        CheckQuota(static_cast<int64_t>(prompt.bytes.size())));
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
