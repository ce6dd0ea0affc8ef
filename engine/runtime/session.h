// SPDX-License-Identifier: Apache-2.0
//
// A named conversation: what it was given, what it has said, and the state
// that remembers both.
//
// Input passes three places. Segments that were accepted wait in the input
// queue, bounded by the writer's credit; Plan moves their tokens into the
// state's tail, a block at a time; a pass takes the tail into the state. Text
// whose tokens depend on what follows it stays in the queue: it is pending, and
// counts as absorbed. Tasks (a generation, a scoring, a commit) take their turn
// when nothing else waits.
//
// The state belongs to whoever holds the lease: the scheduler from Begin to
// Complete, or one reader at a time through WithState. All else is guarded by
// the mutex. Neither is held while anything is computed, except that Plan
// holds the mutex while it moves tokens.
#ifndef MNEME_ENGINE_RUNTIME_SESSION_H_
#define MNEME_ENGINE_RUNTIME_SESSION_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "engine/base/byte_budget.h"
#include "engine/base/clock.h"
#include "engine/runtime/history.h"
#include "engine/runtime/input_queue.h"
#include "engine/runtime/lane.h"
#include "engine/runtime/notifier.h"
#include "engine/runtime/observer.h"
#include "engine/runtime/reply.h"
#include "engine/runtime/served_model.h"
#include "engine/runtime/streams.h"
#include "engine/runtime/task.h"

namespace mneme {

// One stream's turn as the writer of a session. Guarded by its session.
struct SessionWriter {
  explicit SessionWriter(StreamListener* listener) : notifier(listener) {}
  Notifier notifier;
  absl::Status status;           // not OK: the turn is over
  int64_t position_at_open = 0;  // tokens of the history then
};

class GenerationTask;

// The answer to a request that may come again.
struct KeptReply {
  std::string request_id;  // empty: there is none
  std::string request_digest;
  bool had_prompt = false;
  std::shared_ptr<Reply> reply;
  std::weak_ptr<GenerationTask> task;  // while it runs
};

class Session final : public Lane {
 public:
  // Tasks that may wait for their turn or work on copies.
  static constexpr size_t kMaxTasks = 64;

  struct Setup {
    std::string id;
    std::string uid;
    SessionUnit unit = SessionUnit::kText;
    std::map<std::string, std::string> labels;
    absl::Duration ttl;  // zero: never expires
    std::shared_ptr<const ServedModel> model;
    std::unique_ptr<SessionState> state;  // of a new session
    ByteBudget::Reservation reservation;  // for the state and the index
    const Clock* clock = nullptr;
    Observer* observer = nullptr;
  };

  // Starts a task that works on a copy of the state, and leaves no trace in
  // the session.
  using StartOnCopy = std::function<void(
      const Session& session, const std::shared_ptr<Task>& task,
      const SessionState& state, int64_t next_offset,
      const InputQueue& pending)>;

  Session(Setup setup, StartOnCopy start_on_copy);
  ~Session() override;

  // Bytes beside the state.
  static int64_t IndexBytes();

  const std::string& id() const { return setup_.id; }
  const std::string& uid() const { return setup_.uid; }
  SessionUnit unit() const { return setup_.unit; }
  const ServedModel& served() const { return *setup_.model; }
  const std::shared_ptr<const ServedModel>& served_ptr() const {
    return setup_.model;
  }

  // -- Lane ----------------------------------------------------------------
  const Model& model() const override { return *setup_.model->model; }
  Demand Plan() override;
  bool Begin() override;
  SessionState& state() override { return *setup_.state; }
  void Complete(const absl::Status& status, ConstRows logits) override;

  // -- The rest, thread-safe -------------------------------------------------

  SessionInfo Info() const;
  // Calls `read` with the state and the pending text, when no pass is using it
  // and no full block waits for one. False if the session was deleted.
  bool WithState(
      absl::FunctionRef<void(const SessionState& state,
                             std::string_view pending, SessionInfo& info)>
          read,
      SessionInfo& info);

  // ABORTED (ETAG_MISMATCH) if the revision is another.
  absl::StatusOr<SessionInfo> Update(const UpdateSessionOptions& options);

  // Empties it and raises its epoch, when no pass is using it. ABORTED
  // (SESSION_BUSY) if it has a writer or waiting tasks and `takeover` is false;
  // with it, they end ABORTED (TAKEN_OVER). Tasks on copies go on.
  absl::Status Reset(bool takeover);

  // InfinitePast: it has expired by `now` and is deleted; else when to look
  // again, InfiniteFuture if never.
  absl::Time ExpireIfDue(absl::Time now);

  // Ends everything that goes on with it: its writer at once, its tasks when
  // they are planned next. Returns those that work on copies, whose lanes the
  // caller wakes.
  std::vector<std::shared_ptr<Task>> Delete();

  // Errors as Engine::OpenAppend.
  absl::StatusOr<std::shared_ptr<SessionWriter>> OpenWriter(
      const AppendOptions& options, StreamListener* listener,
      AppendOpened& opened);
  void CloseWriter(const std::shared_ptr<SessionWriter>& writer);
  // As AppendStream.
  absl::StatusOr<AppendStream::Taken> Write(
      const SessionWriter& writer, const AppendStream::Segment& segment);
  bool Writable(const SessionWriter& writer) const;
  absl::Status WriterStatus(const SessionWriter& writer) const;
  AppendProgress Progress(const SessionWriter& writer) const;

  // Puts `task` behind what waits, after `prompt`, checked input. The position
  // and the offset where its output will begin are not known yet. If `kept` has
  // a request id, it is kept from now on instead of what was. ABORTED
  // (SESSION_BUSY) if it commits and another that commits is there;
  // RESOURCE_EXHAUSTED (QUEUE_FULL); INVALID_ARGUMENT; ALREADY_EXISTS if the
  // answer to that request id is kept.
  absl::Status AddTask(std::shared_ptr<Task> task, Prompt prompt,
                       KeptReply kept = {});

  // The answer that is kept, if it is to `request_id`.
  absl::optional<KeptReply> FindReply(const std::string& request_id) const;

 private:
  class Sink;

  // Whether kept_ answers `request_id`. What ended before it began and left
  // nothing in the history is forgotten.
  bool Keeps(const std::string& request_id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool settled() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return setup_.state->tail_room() > 0;
  }
  // The task that writes the history, or will; null if none.
  const Task* CommittingTask() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether input has to wait: for a task that writes, for one whose history
  // ends where the input so far does, or for credit.
  bool HasRoomFor(int64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends those that were aborted.
  void DropAborted(std::vector<std::shared_ptr<Task>>& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the first task off, which is done or failed.
  void PopTask(std::vector<std::shared_ptr<Task>>& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Demand PlanLocked(int64_t& absorbed, bool& progress,
                    std::vector<std::shared_ptr<Task>>& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Fills the tail from the queue; tokens that it took. `ends`: the text goes
  // no further than the queue, as far as its tokens go.
  int64_t PullInput(bool ends) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes input into the account of the history and into the queue.
  void Accept(std::string_view bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Puts the token that begins a history into the tail.
  void BeginHistory() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FenceWriter(std::shared_ptr<SessionWriter>& fenced)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Time ExpireTime() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SessionInfo InfoLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t AbsorbedOffset() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckAlive() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountTokens() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Setup setup_;  // the state inside belongs to the lease; the rest is constant
  const StartOnCopy start_on_copy_;
  const absl::Time create_time_;

  mutable absl::Mutex mutex_;
  bool leased_ ABSL_GUARDED_BY(mutex_) = false;
  int readers_waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool deleted_ ABSL_GUARDED_BY(mutex_) = false;
  bool task_pass_ ABSL_GUARDED_BY(mutex_) = false;  // the planned one is a
                                                    // task's
  // The last pass failed: nothing is retried until something new happens.
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  // What Plan last demanded is still what the state wants.
  bool planned_ ABSL_GUARDED_BY(mutex_) = false;
  // The turn of the first task, which commits, has come.
  bool asking_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t epoch_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t revision_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<std::string, std::string> labels_ ABSL_GUARDED_BY(mutex_);
  absl::Duration ttl_ ABSL_GUARDED_BY(mutex_);
  absl::Time update_time_ ABSL_GUARDED_BY(mutex_);
  History history_ ABSL_GUARDED_BY(mutex_);
  InputQueue input_ ABSL_GUARDED_BY(mutex_);         // accepted
  int64_t position_ ABSL_GUARDED_BY(mutex_) = 0;     // tokens absorbed
  int64_t tail_tokens_ ABSL_GUARDED_BY(mutex_) = 0;  // of them in the tail
  std::shared_ptr<SessionWriter> writer_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Task>> tasks_ ABSL_GUARDED_BY(mutex_);
  KeptReply kept_ ABSL_GUARDED_BY(mutex_);
  // Those that went on to work on a copy, while they live.
  std::vector<std::weak_ptr<Task>> copies_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SESSION_H_
