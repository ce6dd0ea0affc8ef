// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/crc32c.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

absl::Status Deleted(const std::string& id) {
  return WithReason(
      absl::NotFoundError(absl::StrCat("session ", id, " was deleted")),
      {.reason = "SESSION_NOT_FOUND", .metadata = {}});
}

std::string Hex(uint32_t value) {
  return absl::StrCat(absl::Hex(value, absl::kZeroPad8));
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
      update_time_(create_time_),
      history_(setup_.unit) {
  if (setup_.unit == SessionUnit::kText) {
    const absl::optional<int32_t> bos = setup_.model->tokenizer->bos();
    if (bos.has_value()) setup_.state->PushToken(*bos);
  }
  CountTokens();
}

Session::~Session() = default;

int64_t Session::IndexBytes() {
  // The object with its kept history; ids and labels are bounded, and the
  // nodes of the tables that hold it round up.
  constexpr int64_t kNamesAndNodes = 16 << 10;
  return static_cast<int64_t>(sizeof(Session)) + History::kKeptBytes +
         kNamesAndNodes;
}

absl::Status Session::CheckAlive() const {
  return deleted_ ? Deleted(id()) : absl::OkStatus();
}

int64_t Session::AbsorbedOffset() const {
  return history_.next_offset() - input_.size() / history_.unit_bytes();
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
  info.state_bytes = setup_.model->model->layout()->state_bytes();
  info.labels = setup_.labels;
  info.create_time = create_time_;
  info.update_time = update_time_;
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

bool Session::WithState(
    absl::FunctionRef<void(const SessionState& state, SessionInfo& info)> read,
    SessionInfo& info) {
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
    if (input_.empty()) info.history_digest = history_.Digest();
  }
  read(*setup_.state, info);
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

int64_t Session::PullInput() {
  SessionState& state = *setup_.state;
  const int64_t unit_bytes = history_.unit_bytes();
  int64_t absorbed = 0;
  while (!input_.empty() && state.tail_room() > 0) {
    const int64_t bytes =
        std::min(input_.size(), state.tail_room() * unit_bytes);
    pulled_.clear();
    setup_.model->Encode(unit(), input_.bytes().substr(0, bytes), pulled_);
    for (const int32_t token : pulled_) state.PushToken(token);
    input_.Consume(bytes);
    absorbed += static_cast<int64_t>(pulled_.size());
  }
  CountTokens();
  return absorbed;
}

void Session::PopTask(std::vector<std::shared_ptr<Task>>& done) {
  tasks_.front()->SetLane(nullptr);
  done.push_back(std::move(tasks_.front()));
  tasks_.pop_front();
  update_time_ = setup_.clock->Now();
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
  while (!stalled_) {
    if (settled() && readers_waiting_ > 0) return {};
    absorbed += PullInput();
    const bool task_is_next = !tasks_.empty() && input_.empty();
    if (!settled() && !(task_is_next && tasks_.front()->commits())) {
      task_pass_ = false;
      return ComputeTail(state);
    }
    if (!task_is_next) return {};
    const std::shared_ptr<Task> task = tasks_.front();
    if (!task->commits()) {
      tasks_.pop_front();
      copies_.push_back(task);
      start_on_copy_(*this, task, state, history_.next_offset());
      progress = true;  // the writer waited for it
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
    if (absorbed > 0 || progress || !done.empty()) writer = writer_;
  }
  if (absorbed > 0) setup_.observer->OnAbsorbed(served().name, absorbed);
  for (const std::shared_ptr<Task>& task : done) task->Notify();
  if (writer != nullptr) writer->notifier.Notify();
  return demand;
}

bool Session::Begin() {
  absl::MutexLock lock(&mutex_);
  if (deleted_ || leased_) return false;
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
      if (!tasks_.empty()) {
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

// -- Writers -----------------------------------------------------------------

absl::StatusOr<std::shared_ptr<SessionWriter>> Session::OpenWriter(
    const AppendOptions& options, StreamListener* listener,
    AppendOpened& opened) {
  std::shared_ptr<SessionWriter> fenced;
  auto writer = std::make_shared<SessionWriter>(listener);
  {
    absl::MutexLock lock(&mutex_);
    MNEME_RETURN_IF_ERROR(CheckAlive());
    if (options.expected_epoch != 0 && options.expected_epoch != epoch_) {
      return WithReason(absl::AbortedError(absl::StrCat(
                            "session ", id(), " is in epoch ", epoch_,
                            ", want ", options.expected_epoch)),
                        {.reason = "EPOCH_FENCED",
                         .metadata = {{"epoch", absl::StrCat(epoch_)}}});
    }
    if (writer_ != nullptr) {
      if (!options.takeover) {
        return WithReason(
            absl::AbortedError(absl::StrCat(
                "session ", id(), " has another append stream; want takeover")),
            {.reason = "SESSION_BUSY", .metadata = {{"busy", "APPENDING"}}});
      }
      ++epoch_;
      fenced = std::move(writer_);
      fenced->status =
          WithReason(absl::AbortedError(absl::StrCat(
                         "another append stream took session ", id(), " over")),
                     {.reason = "TAKEN_OVER",
                      .metadata = {{"epoch", absl::StrCat(epoch_)}}});
    }
    stalled_ = false;
    input_.Reserve(kMaxInflightBytes);
    writer->position_at_open = position_;
    writer_ = writer;
    opened.uid = uid();
    opened.epoch = epoch_;
    opened.unit = unit();
    opened.next_offset = history_.next_offset();
    opened.absorbed_offset = AbsorbedOffset();
    opened.position = position_;
    opened.max_inflight_bytes = kMaxInflightBytes;
    opened.max_segment_bytes = kMaxSegmentBytes;
    if (input_.empty()) opened.history_digest = history_.Digest();
  }
  if (fenced != nullptr) fenced->notifier.Notify();
  return writer;
}

void Session::CloseWriter(const std::shared_ptr<SessionWriter>& writer) {
  writer->notifier.Detach();
  absl::MutexLock lock(&mutex_);
  if (writer_ != writer) return;
  writer_ = nullptr;
  input_.Reserve(0);
}

const Task* Session::CommittingTask() const {
  for (const std::shared_ptr<Task>& task : tasks_) {
    if (task->commits()) return task.get();
  }
  return nullptr;
}

bool Session::HasRoomFor(int64_t bytes) const {
  return tasks_.empty() &&
         (input_.empty() || input_.size() + bytes <= kMaxInflightBytes);
}

void Session::Accept(std::string_view bytes) {
  history_.Add(bytes);
  input_.Append(bytes);
  update_time_ = setup_.clock->Now();
  stalled_ = false;
}

absl::StatusOr<AppendStream::Taken> Session::Write(
    const SessionWriter& writer, const AppendStream::Segment& segment) {
  Observer& observer = *setup_.observer;
  const std::string& model = setup_.model->name;
  auto rejected = [&](SegmentResult result, absl::Status status) {
    observer.OnSegment(model, result, 0);
    return status;
  };

  AppendStream::Taken taken;
  {
    // Waiting costs nothing: a segment is looked at when there is room for it.
    absl::MutexLock lock(&mutex_);
    MNEME_RETURN_IF_ERROR(writer.status);
    if (!HasRoomFor(PayloadSize(segment.payload))) {
      taken.offer = Offer::kLater;
      return taken;
    }
  }

  // What can be said of the segment by itself.
  const std::string bytes = PayloadBytes(segment.payload);
  const auto size = static_cast<int64_t>(bytes.size());
  if (size == 0 || size > kMaxSegmentBytes) {
    return rejected(SegmentResult::kRejected,
                    BadField("segment.payload",
                             absl::StrCat("found ", size, " bytes for offset ",
                                          segment.offset, ", wanted 1 to ",
                                          kMaxSegmentBytes)));
  }
  if (segment.offset < 0) {
    return rejected(
        SegmentResult::kRejected,
        BadField("segment.offset",
                 absl::StrCat("found ", segment.offset, ", wanted 0 or more")));
  }
  if (segment.crc32c.has_value()) {
    const uint32_t found = Crc32c(bytes);
    if (found != *segment.crc32c) {
      return rejected(
          SegmentResult::kRejected,
          WithReason(absl::InvalidArgumentError(absl::StrCat(
                         "segment at offset ", segment.offset, ": crc32c is ",
                         found, ", want ", *segment.crc32c)),
                     {.reason = "CRC_MISMATCH",
                      .metadata = {{"offset", absl::StrCat(segment.offset)},
                                   {"found", Hex(found)},
                                   {"expected", Hex(*segment.crc32c)}}}));
    }
  }
  if (const absl::Status status = setup_.model->CheckInput(
          unit(), segment.payload,
          absl::StrCat("segment at offset ", segment.offset));
      !status.ok()) {
    return rejected(SegmentResult::kRejected, status);
  }

  absl::MutexLock lock(&mutex_);
  MNEME_RETURN_IF_ERROR(writer.status);
  if (!HasRoomFor(size)) {
    taken.offer = Offer::kLater;
    return taken;
  }
  const int64_t next = history_.next_offset();
  const int64_t unit_bytes = history_.unit_bytes();
  if (segment.offset > next) {
    return rejected(
        SegmentResult::kGap,
        WithReason(absl::OutOfRangeError(
                       absl::StrCat("segment at offset ", segment.offset,
                                    " leaves a gap, want ", next)),
                   {.reason = "SEGMENT_GAP",
                    .metadata = {{"offset", absl::StrCat(segment.offset)},
                                 {"expected_offset", absl::StrCat(next)}}}));
  }
  // What the session has already has to be the same.
  const int64_t known_bytes =
      std::min((next - segment.offset) * unit_bytes, size);
  if (known_bytes > 0) {
    taken.duplicate = true;
    switch (history_.Compare(segment.offset,
                             std::string_view(bytes).substr(0, known_bytes))) {
      case History::Match::kSame:
        break;
      case History::Match::kTooOld:
        taken.verified = false;
        break;
      case History::Match::kDifferent:
        return rejected(
            SegmentResult::kConflict,
            WithReason(absl::FailedPreconditionError(absl::StrCat(
                           "segment at offset ", segment.offset,
                           " differs from what the session has there")),
                       {.reason = "SEGMENT_CONFLICT",
                        .metadata = {{"offset", absl::StrCat(segment.offset)},
                                     {"next_offset", absl::StrCat(next)}}}));
    }
  }
  if (known_bytes == size) {
    observer.OnSegment(model, SegmentResult::kDuplicate, 0);
    return taken;
  }
  Accept(std::string_view(bytes).substr(known_bytes));
  observer.OnSegment(model, SegmentResult::kApplied, size - known_bytes);
  return taken;
}

bool Session::Writable(const SessionWriter& writer) const {
  absl::MutexLock lock(&mutex_);
  return !writer.status.ok() || HasRoomFor(1);
}

absl::Status Session::WriterStatus(const SessionWriter& writer) const {
  absl::MutexLock lock(&mutex_);
  return writer.status;
}

AppendProgress Session::Progress(const SessionWriter& writer) const {
  absl::MutexLock lock(&mutex_);
  return {.absorbed_offset = AbsorbedOffset(),
          .position = position_,
          .tokens = position_ - writer.position_at_open,
          .idle = input_.empty()};
}

// -- Tasks -------------------------------------------------------------------

absl::Status Session::AddTask(std::shared_ptr<Task> task,
                              std::string_view prompt) {
  absl::MutexLock lock(&mutex_);
  MNEME_RETURN_IF_ERROR(CheckAlive());
  const Task* const writing = CommittingTask();
  if (task->commits() && writing != nullptr) {
    return WithReason(
        absl::AbortedError(
            absl::StrCat("session ", id(),
                         " is being generated from or scored into "
                         "already")),
        {.reason = "SESSION_BUSY",
         .metadata = {{"busy", writing->activity() == SessionActivity::kScoring
                                   ? "SCORING"
                                   : "GENERATING"}}});
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
  if (!prompt.empty()) Accept(prompt);
  stalled_ = false;
  tasks_.push_back(std::move(task));
  return absl::OkStatus();
}

}  // namespace mneme
