// SPDX-License-Identifier: Apache-2.0
//
// A named conversation: what it was given, what it has said, and the state
// that remembers both.
//
// A session is always known; its state is in memory (hot) only while it is
// used, or while there is room. What is in memory is Hot:
//
//            Hold                      replay done
//     cold ---------> loading ---------------------------> hot
//       ^                                                   |
//       +------------------- leaving <----------------------+
//                                        TryLeave
//
// Input passes three places. Segments that were accepted wait in the input
// queue, bounded by the writer's credit; Plan moves their tokens into the
// state's tail, a block at a time; a pass takes the tail into the state. Text
// whose tokens depend on what follows it stays in the queue: it is pending, and
// counts as absorbed. Tasks (a generation, a scoring, a commit) take their turn
// when nothing else waits.
//
// All of the history goes to the journal in the order in which it is made:
// input when it is accepted, an Ask before anything is computed for it, tokens
// that were said soon after. A session whose journal fails loses what it has
// in memory and is loaded anew: it goes on from what is stored.
//
// The state belongs to whoever holds the lease: the scheduler from Begin to
// Complete, or one reader at a time through WithState or WhenQuiet. All else is
// guarded by the mutex. Neither is held while anything is computed, except that
// Plan holds the mutex while it moves tokens.
#ifndef MNEME_ENGINE_RUNTIME_SESSION_H_
#define MNEME_ENGINE_RUNTIME_SESSION_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "engine/base/buffer_pool.h"
#include "engine/base/byte_budget.h"
#include "engine/base/clock.h"
#include "engine/runtime/history.h"
#include "engine/runtime/input_queue.h"
#include "engine/runtime/kept_reply.h"
#include "engine/runtime/lane.h"
#include "engine/runtime/notifier.h"
#include "engine/runtime/observer.h"
#include "engine/runtime/served_model.h"
#include "engine/runtime/session_events.h"
#include "engine/runtime/session_writes.h"
#include "engine/runtime/stored_edit.h"
#include "engine/runtime/stored_journal.h"
#include "engine/runtime/streams.h"
#include "engine/runtime/task.h"
#include "engine/store/journal_record.h"
#include "engine/store/session_store.h"

namespace mneme {

class Session;

// One stream's turn as the writer of a session. Guarded by its session.
struct SessionWriter {
  explicit SessionWriter(StreamListener* listener) : notifier(listener) {}
  Notifier notifier;
  absl::Status status;  // not OK: the turn is over
  // What came of comparing a segment with the journal, which is slow: the last
  // one that was older than what memory has.
  struct Comparison {
    int64_t offset = 0;
    std::string bytes;
    absl::optional<History::Match> match;  // none: it is being compared
  };
  absl::optional<Comparison> comparison;
  int64_t position_at_open = 0;  // tokens of the history then
};

// What sessions want of the engine. Called without a session's lock, except
// where it says so.
class SessionHost {
 public:
  virtual ~SessionHost() = default;

  // Starts a task that works on a copy of the state, and leaves no trace in
  // the session. Called under the session's lock.
  virtual void StartOnCopy(const Session& session,
                           const std::shared_ptr<Task>& task,
                           const SessionState& state, int64_t next_offset,
                           const InputQueue& pending) = 0;
  // Its lane may have work.
  virtual void Wake(std::shared_ptr<Session> session) = 0;
  // Calls `work` soon, on a thread that may block.
  virtual void Post(std::function<void()> work) = 0;
  // It is wanted again: to be loaded.
  virtual void StartLoad(std::shared_ptr<Session> session) = 0;
  // Nobody uses it any more.
  virtual void OnIdle(const std::shared_ptr<Session>& session) = 0;
  // It has gone far enough since its last snapshot.
  virtual void OnSnapshotDue(const std::shared_ptr<Session>& session) = 0;
  // Makes a task out of what the journal says of it. Called under the session's
  // lock. DATA_LOSS if that makes no sense.
  struct Replayed {
    std::shared_ptr<Task> task;
    KeptReply kept;  // of a generation that has a request id
  };
  virtual absl::StatusOr<Replayed> Replay(const Session& session,
                                          const AskRecord& ask,
                                          ReplayedTask replayed) = 0;
  // Memory, for which idle sessions are put out. RESOURCE_EXHAUSTED
  // (RAM_BUDGET). Blocks.
  virtual absl::StatusOr<ByteBudget::Reservation> Reserve(int64_t bytes,
                                                          const char* what) = 0;
  // A task of the journal goes on: it may run for long. Called under the
  // session's lock.
  virtual void OnTaskResumed(const std::shared_ptr<Task>& task) = 0;
};

// ABORTED (TAKEN_OVER): someone else writes session `id` now.
absl::Status TakenOver(const std::string& id, int64_t epoch);
// The key of sessions that are made with `model`.
std::string ModelKey(const ServedModel& model);

class Session final : public Lane,
                      public std::enable_shared_from_this<Session> {
 public:
  // Tasks that may wait for their turn or work on copies.
  static constexpr size_t kMaxTasks = 64;
  static constexpr size_t kMaxNamedSnapshots = 1024;

  struct Limits {
    int64_t snapshot_interval_tokens = 0;
    int64_t snapshots_kept = 1;
    int64_t stored_bytes = 0;  // 0: none
  };

  struct Setup {
    FoundSession stored;
    std::shared_ptr<const ServedModel> model;  // null: it is not loaded
    // For what is always in memory, and to count that.
    ByteBudget::Reservation index;
    ByteBudget::Reservation counted;
    Limits limits;
    SessionStore* store = nullptr;  // these outlive it
    BufferPool* buffers = nullptr;
    SessionHost* host = nullptr;
    const Clock* clock = nullptr;
    Observer* observer = nullptr;
  };

  explicit Session(Setup setup);
  ~Session() override;

  // Bytes of one that is not hot.
  static int64_t IndexBytes(const SessionRecord& record);
  // Bytes that being hot takes, the state included.
  static int64_t HotBytes(const ServedModel& model);
  // Bytes that being stored, or read from the store, takes meanwhile.
  static int64_t TransferBytes(const ServedModel& model);

  const std::string& id() const { return id_; }
  const std::string& uid() const { return uid_; }
  SessionUnit unit() const { return unit_; }
  // The name that its model has, or had.
  const std::string& model_name() const { return model_name_; }
  // That and what it is: sessions of equal keys go with the same weights.
  const std::string& model_key() const { return model_key_; }
  // REQUIRES: Bind was called.
  const ServedModel& served() const { return *model_; }
  const std::shared_ptr<const ServedModel>& served_ptr() const {
    return model_;
  }

  // -- Lane (session_lane.cc) ----------------------------------------------
  const Model& model() const override { return *model_->model; }
  Demand Plan() override;
  bool Begin() override;
  SessionState& state() override { return *hot_->state; }
  void Complete(const absl::Status& status, ConstRows logits) override;

  // -- In memory and out of it (session_residency.cc), thread-safe ----------

  // Has it stored for the first time.
  void Create(absl::optional<RememberedRequest> request,
              SessionStore::Done done);
  // Its model was loaded, if it is the one that the session was made with:
  // FAILED_PRECONDITION (STATE_INCOMPATIBLE) if not.
  absl::Status Bind(const std::shared_ptr<const ServedModel>& model);

  // Keeps it hot until Unhold, if it is. Else `waiter` is called when it is
  // and held, or could not be loaded, and the caller has to start a load if
  // `*start` is set.
  using Waiter = std::function<void(absl::StatusOr<LoadReport>)>;
  bool Hold(Waiter waiter, bool* start);
  void Unhold();

  // Reads it from the store into memory. What the journal says behind its
  // snapshot is then replayed: the caller wakes the lane. Blocks.
  void LoadFrom(ByteBudget::Reservation reservation);
  // The load that was started could not be.
  void FailLoad(const absl::Status& status);

  // Takes it out of memory, what is not stored yet being stored first; false
  // if it is in use, or its store fails. Blocks.
  bool TryLeave();
  // Stores its state, if it has gone far enough; between tasks only. Blocks.
  void StoreSnapshot();

  // Guarded by who keeps the order in which sessions leave.
  uint64_t idle_stamp = 0;
  // Guarded by who lets it expire: when to look whether it has, on the
  // monotonic clock.
  absl::Duration next_look = absl::InfiniteDuration();

  // -- What is done to it as a whole (session_edit.cc), thread-safe ----------

  // Calls `work` on a thread that may block, when all input accepted so far is
  // absorbed and no task is at work: with OK the state is the caller's until
  // the call returns. REQUIRES: it is held.
  void WhenQuiet(std::function<void(absl::Status)> work);

  // Keeps one that is cold, and whose last snapshot is all there is, as it is
  // until EndRest; false if it is not so.
  bool BeginRest();
  void EndRest() { Release(); }
  // Keeps the state under `name`, or if that is empty as an automatic snapshot,
  // unless the last one is of the same. Blocks. REQUIRES: it is quiet, or
  // at rest. ALREADY_EXISTS; RESOURCE_EXHAUSTED (QUOTA).
  using Remembering =
      std::function<absl::optional<RememberedRequest>(const StoredSnapshot&)>;
  absl::StatusOr<StoredSnapshot> KeepSnapshot(const std::string& name,
                                              const Remembering& remember);
  // NOT_FOUND. Blocks.
  absl::Status DropSnapshot(const std::string& name,
                            const Remembering& remember);
  // By offset, the oldest first.
  std::vector<StoredSnapshot> Snapshots() const;
  // Whether it is as one that was just made, or emptied.
  bool Untouched() const;
  // What a snapshot of it would contain. Blocks. REQUIRES: as of KeepSnapshot.
  struct Contents {
    StoredSnapshot snapshot;  // without blob and name
    std::string bytes;
  };
  absl::StatusOr<Contents> QuietContents();

  // As Engine::ResetSession and Engine::RollbackSession. They block, and leave
  // the session cold.
  absl::Status Reset(const ResetOptions& options);
  absl::Status Rollback(const RollbackOptions& options);

  // -- The rest, thread-safe -------------------------------------------------

  SessionInfo Info() const;
  SessionRecord record() const;
  // With the digests, if it is cold and they are known without its state.
  bool InfoAtRest(SessionInfo& info) const;
  // Calls `read` with the state and the pending text, when no pass is using it
  // and no full block waits for one. NOT_FOUND if the session was deleted;
  // UNAVAILABLE if it left memory; what it was closed with. REQUIRES: it is
  // held.
  absl::Status WithState(
      absl::FunctionRef<void(const SessionState& state,
                             std::string_view pending, SessionInfo& info)>
          read,
      SessionInfo& info);

  // ABORTED (ETAG_MISMATCH) if the revision is another. `done` is called when
  // the change is stored.
  void Update(const UpdateSessionOptions& options,
              std::function<void(absl::StatusOr<SessionInfo>)> done);

  // On the monotonic clock. -InfiniteDuration: it has expired by `now` and is
  // deleted; else when to look
  // again, InfiniteDuration if never.
  absl::Duration ExpireIfDue(absl::Duration now);
  // When it expires, as far as is known, likewise.
  absl::Duration ExpiresAt() const;

  // Ends everything that goes on with it: its writer at once, its tasks when
  // they are planned next. Returns those that work on copies, whose lanes the
  // caller wakes. `kind` is what its watches hear last.
  std::vector<std::shared_ptr<Task>> Delete(SessionEvent::Kind kind);
  // Ends everything that goes on with it with `status`, which all that comes
  // is refused with too; nothing of it is computed any more, and it does not
  // leave memory. What was accepted stays in the journal: tasks that cannot end
  // at once are cut off, as by a crash.
  void Close(const absl::Status& status);
  // Removes what is stored of it, and as long as that is not done changes
  // nothing else: Delete comes afterwards. `done` gets the session as it was.
  // ABORTED (ETAG_MISMATCH).
  void RemoveStored(const DeleteOptions& options,
                    std::function<void(absl::StatusOr<SessionInfo>)> done);

  // Errors as Engine::OpenAppend. REQUIRES, as of all that follows: it is held.
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
  // The generation that a crash cut off goes on, if it is to `request_id`; the
  // caller wakes the lane.
  void ResumeGeneration(const std::string& request_id);

  // NOT_FOUND; RESOURCE_EXHAUSTED (QUEUE_FULL).
  absl::StatusOr<std::unique_ptr<SessionWatch>> Watch(StreamListener* listener);

 private:
  class Sink;

  // Tokens that are journaled together while more are said.
  static constexpr size_t kSaidTogether = 16;

  enum class Place { kCold, kLoading, kHot, kLeaving };

  // Memory for a journal while it is there, which may be long where an answer
  // was.
  class JournalRoom {
   public:
    explicit JournalRoom(SessionHost* host) : host_(host) {}
    // So many bytes in all. Errors as SessionHost::Reserve.
    absl::Status Hold(int64_t bytes);

   private:
    SessionHost* host_;
    int64_t bytes_ = 0;
    std::vector<ByteBudget::Reservation> parts_;
  };

  // What the journal says and memory does not have yet.
  struct Replay {
    JournalReplay journal;
    JournalRoom room;
    int64_t position = 0;  // where it began
    LoadReport report;
    absl::Duration start;
  };

  // What is in memory of a hot session only.
  struct Hot {
    Hot(std::unique_ptr<SessionState> its_state, const ServedModel& model,
        SessionUnit unit)
        : state(std::move(its_state)),
          history(unit),
          input(&model, unit),
          counted(model) {}
    std::unique_ptr<SessionState> state;  // belongs to the lease
    History history;
    InputQueue input;  // accepted
    KeptReply kept;
    // A generation that a crash cut off, and that may go on.
    std::shared_ptr<Task> suspended;
    ByteBudget::Reservation reservation;
    absl::optional<Replay> replay;
    const ServedModel::HotSession counted;
  };

  // How far the history is; of a hot session, what Hot does not say.
  struct Reach {
    int64_t position = 0;         // tokens absorbed
    int64_t tail_tokens = 0;      // of them in the tail
    int64_t pending_bytes = 0;    // of a cold one
    int64_t absorbed_offset = 0;  // likewise
  };

  // A task whose end is not in the store yet.
  struct Ending {
    uint64_t seq = 0;
    std::shared_ptr<Task> task;
  };

  // A session's parts as bytes, but for its state.
  struct Encoded {
    std::string history;
    std::string input;
    std::string reply;
    std::string pending;
    bool whole = false;  // nothing waits to be absorbed
    uint64_t run = 0;
    StoredSnapshot snapshot;
  };

  // What a call has to do once it has let go of the mutex.
  struct Afterwards {
    bool wake = false;
    bool idle = false;
    bool snapshot_due = false;
    bool progress = false;  // the writer waited for something
    int64_t absorbed = 0;
    std::shared_ptr<SessionWriter> writer;     // to be notified
    std::vector<std::shared_ptr<Task>> tasks;  // likewise
    std::vector<SessionEvent> events;
    std::vector<std::function<void()>> calls;
  };
  void Do(Afterwards& after) ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether `kept` answers `request_id`. What ended before it began and left
  // nothing in the history is forgotten.
  bool Keeps(const std::string& request_id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool settled() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return hot_->state->tail_room() > 0;
  }
  // The task that writes the history, or will; null if none.
  const Task* CommittingTask() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Who uses it, as the contract spells that. REQUIRES: someone does.
  std::string Busy() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether input has to wait: for a task that writes, for one whose history
  // ends where the input so far does, or for credit.
  bool HasRoomFor(int64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends those that were aborted.
  void DropAborted(Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the first task off, which is done or failed.
  void PopTask(Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FailTasks(const absl::Status& status, Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // All of them end with `status`, and nothing of that is journaled; `stored`
  // says whether what they made history is.
  void AbandonTasks(const absl::Status& status, const absl::Status& stored,
                    Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // All of them end because it is closed.
  void CutOffTasks(Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The generation that was cut off, where the history went on all the same.
  void AbandonSuspended(Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Demand PlanLocked(Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Begins the first task, or has the journal told of it first. Whether it has
  // begun.
  bool BeginTask(Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Waits until the state is between two passes and no full block waits for
  // one. False if the session was deleted or closed, or left memory.
  bool AwaitReadable() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Hands the state to work that waits for it, if there is some.
  bool BeginQuiet(Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndQuiet() ABSL_LOCKS_EXCLUDED(mutex_);
  void EndLease(Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Fills the tail from the queue; tokens that it took. `ends`: the text goes
  // no further than the queue, as far as its tokens go.
  int64_t PullInput(bool ends) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes input into the account of the history and into the queue.
  void Accept(const InputRecord& input) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What can be said of a segment by itself.
  absl::Status CheckSegment(const AppendStream::Segment& segment,
                            const std::string& bytes) const;
  // Takes one that is right by itself, whose bytes are `bytes`.
  struct Counted {
    absl::optional<SegmentResult> result;
    int64_t bytes = 0;
  };
  absl::StatusOr<AppendStream::Taken> TakeSegment(
      const SessionWriter& writer, const AppendStream::Segment& segment,
      const std::string& bytes, Counted& counted, Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Compares a segment with what the history has there. None: it is being
  // compared with the journal, and its writer is told when that is done.
  absl::optional<History::Match> CompareSegment(int64_t offset,
                                                std::string_view bytes,
                                                Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CompareWithJournal(const std::shared_ptr<SessionWriter>& writer,
                          const SessionWrites::Place& begin)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void FenceWriter(const absl::Status& status, Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status AddTaskLocked(std::shared_ptr<Task> task, Prompt prompt,
                             KeptReply kept, Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteUse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether it does not expire meanwhile.
  bool Lives() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Time ExpireTime() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration ExpiresAtLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SessionInfo InfoLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t NextOffset() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t AbsorbedOffset() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // NOT_FOUND if it was deleted; else what it was closed with.
  absl::Status CheckOpen() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // NOT_FOUND if it was deleted.
  absl::Status CheckAlive() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // UNAVAILABLE (STORE_UNAVAILABLE) if it lost what it had in memory.
  absl::Status CheckHot() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // ABORTED (ETAG_MISMATCH) if it has another.
  absl::Status CheckRevision(absl::optional<int64_t> revision) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // DATA_LOSS (SESSION_QUARANTINED).
  absl::Status CheckWhole() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountTokens() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool InUse() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // It is in memory, and nobody uses it.
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return place_ == Place::kHot && holds_ == 0 && !deleted_ && !InUse();
  }
  void Tell(SessionEvent::Kind kind, std::string detail, Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // -- Journal and record (session_journal.cc) -------------------------------

  // It is cold, and as far as its last snapshot says.
  void ReachSnapshot() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The record, to be changed and then put.
  SessionRecord& EditRecord() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The journal will end at `end`.
  void Submit(StoreWrite write, const SessionWrites::Place& end,
              SessionStore::Done done = nullptr)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The next record of the journal, of so many units of history.
  void Journal(std::variant<InputRecord, AskRecord, SaidRecord> body,
               int64_t units,
               absl::optional<RememberedRequest> request = absl::nullopt)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What was said since the last such record, and that `ended` has, if it is
  // not null.
  void JournalSaid(const Task* ended) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Puts the record as it is.
  void PutRecord(absl::optional<RememberedRequest> request = absl::nullopt,
                 SessionStore::Done done = nullptr)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The same in `write`, which has the journal end at `end`.
  void PutRecord(StoreWrite write, const SessionWrites::Place& end,
                 absl::optional<RememberedRequest> request,
                 SessionStore::Done done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What came of a write.
  void OnStored(uint64_t write, const absl::Status& status)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The store has not taken what memory has: memory is given up.
  void Break(const absl::Status& status, Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tasks that have ended but for their journal fail.
  void FailEndings(const absl::Status& status, Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Lets go of what is in memory.
  void DropHot(Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Work that waits for it to be quiet is refused.
  void RefuseQuiet(const absl::Status& status, Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of the entry of a snapshot, and of labels.
  static constexpr int64_t kSnapshotBytes = sizeof(StoredSnapshot) + 4 * 80;
  static int64_t LabelBytes(const std::map<std::string, std::string>& labels);
  // Has memory for what is always there, and for `more`. RESOURCE_EXHAUSTED
  // (RAM_BUDGET).
  absl::Status FitIndex(int64_t more) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What was stored is damaged.
  void Quarantine(const absl::Status& status, const std::string& good_snapshot,
                  Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether the last automatic snapshot is of all before `seq`, and whole.
  bool KeepsAll(uint64_t seq) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool SnapshotDue() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One without a name becomes the last automatic one, if there is one of the
  // same already.
  void AddSnapshot(StoredSnapshot& snapshot,
                   absl::optional<RememberedRequest> request,
                   SessionStore::Done done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What it takes of the store: its journal, and its snapshots.
  int64_t StoredBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // RESOURCE_EXHAUSTED (QUOTA) if `bytes` more are too much.
  absl::Status CheckQuota(int64_t bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether another snapshot may have a name.
  absl::Status CheckName(const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // -- Coming and leaving ----------------------------------------------------

  // All that is stored of it, and what of that is still to be replayed.
  struct Read {
    std::unique_ptr<Hot> hot;
    StoredJournal journal;
    JournalRoom room;
  };
  absl::StatusOr<Read> ReadHot(const SessionRecord& record,
                               uint64_t end_seq) const;
  // It could not be loaded, or a write has failed meanwhile.
  void EndFailedLoad(const absl::Status& status, Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The newest snapshot that can be read; empty if none can.
  std::string FindGoodSnapshot(const SessionRecord& record) const;
  // Gives the next of the journal to the session. False when it is at its end,
  // or the load has failed.
  bool AdvanceReplay(Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishReplay(const absl::Status& status, Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The generation that was cut off goes on, or ends.
  void ResumeSuspended(bool cancel, Afterwards& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AnswerWaiters(const absl::StatusOr<LoadReport>& outcome,
                     Afterwards& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Encoded EncodeBeside() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // With the state, which is the caller's.
  void EncodeAll(Encoded& encoded, std::string& contents) const;
  // The state's, once, if nothing waits to be absorbed.
  void DigestState(Encoded& encoded) const;
  // The state may be changed by others meanwhile if its digest is known.
  absl::Status StoreEncoded(std::string& contents, Encoded& encoded,
                            const std::string& name,
                            const Remembering& remember)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // -- Editing ---------------------------------------------------------------

  // Ends what goes on, and keeps others out until Release. Returns whether it
  // has ended something. ABORTED (SESSION_BUSY).
  absl::StatusOr<bool> Seize(bool takeover) ABSL_LOCKS_EXCLUDED(mutex_);
  void Release() ABSL_LOCKS_EXCLUDED(mutex_);
  // Until what was written so far is stored. Errors of the store.
  absl::Status AwaitStored() ABSL_LOCKS_EXCLUDED(mutex_);
  // Has it stored that it is as `edit` makes it.
  absl::Status Put(StoredEdit edit, SessionEvent::Kind kind,
                   const RequestTag<SessionInfo>& request)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Edit(bool takeover, SessionEvent::Kind kind,
                    const RequestTag<SessionInfo>& request,
                    absl::FunctionRef<absl::Status(StoredEdit&)> edit);

  const std::string id_;
  const std::string uid_;
  const SessionUnit unit_;
  const std::string model_name_;
  const std::string model_key_;
  const Limits limits_;
  SessionStore* const store_;
  BufferPool* const buffers_;
  SessionHost* const host_;
  const Clock* const clock_;
  Observer* const observer_;
  std::shared_ptr<const ServedModel> model_;  // written once, before any hold
  SessionEvents events_;

  mutable absl::Mutex mutex_;
  Place place_ ABSL_GUARDED_BY(mutex_) = Place::kCold;
  // What state() gives belongs to the lease.
  std::unique_ptr<Hot> hot_;
  int64_t holds_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
  ByteBudget::Reservation index_ ABSL_GUARDED_BY(mutex_);
  ByteBudget::Reservation counted_ ABSL_GUARDED_BY(mutex_);
  SessionRecord record_ ABSL_GUARDED_BY(mutex_);
  Reach reach_ ABSL_GUARDED_BY(mutex_);

  // When it was used last, on the monotonic clock: the wall's may jump.
  absl::Duration last_use_ ABSL_GUARDED_BY(mutex_);

  bool leased_ ABSL_GUARDED_BY(mutex_) = false;
  int readers_waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool deleted_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
  // The planned pass is a task's.
  bool task_pass_ ABSL_GUARDED_BY(mutex_) = false;
  // The last pass failed: nothing is retried until something new happens.
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  // What Plan last demanded is still what the state wants.
  bool planned_ ABSL_GUARDED_BY(mutex_) = false;
  // How far the Ask of the first task, which commits, is.
  enum class Asking { kNo, kJournaling, kJournaled, kYes };
  Asking asking_ ABSL_GUARDED_BY(mutex_) = Asking::kNo;
  // That of the tasks nobody waits for.
  const Task* owed_ ABSL_GUARDED_BY(mutex_) = nullptr;
  // The store failed while the state was leased.
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);

  std::shared_ptr<SessionWriter> writer_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Task>> tasks_ ABSL_GUARDED_BY(mutex_);
  // Those that went on to work on a copy, while they live.
  std::vector<std::weak_ptr<Task>> copies_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::function<void(absl::Status)>> quiet_ ABSL_GUARDED_BY(mutex_);

  // Edit has copied the record, and has not yet handed in what it makes of it.
  bool editing_ ABSL_GUARDED_BY(mutex_) = false;

  // Of the journal.
  SessionWrites writes_ ABSL_GUARDED_BY(mutex_);
  // Raised when history is given up or taken back.
  uint64_t run_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t ask_seq_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t journal_bytes_ ABSL_GUARDED_BY(mutex_) = 0;     // since the snapshot
  std::vector<TakenToken> said_ ABSL_GUARDED_BY(mutex_);  // not journaled yet
  std::deque<Ending> endings_ ABSL_GUARDED_BY(mutex_);
  bool snapshot_wanted_ ABSL_GUARDED_BY(mutex_) = false;
  // None is tried again before this, on the monotonic clock.
  absl::Duration next_snapshot_ ABSL_GUARDED_BY(mutex_) =
      -absl::InfiniteDuration();
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SESSION_H_
