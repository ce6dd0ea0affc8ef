// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_ENGINE_IMPL_H_
#define MNEME_ENGINE_ENGINE_IMPL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/random/random.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/buffer_pool.h"
#include "engine/base/byte_budget.h"
#include "engine/base/machine.h"
#include "engine/engine.h"
#include "engine/ops/backend.h"
#include "engine/runtime/housekeeper.h"
#include "engine/runtime/residency.h"
#include "engine/runtime/room_queue.h"
#include "engine/runtime/scheduler.h"
#include "engine/runtime/served_model.h"
#include "engine/runtime/session.h"
#include "engine/runtime/session_streams.h"
#include "engine/runtime/session_table.h"
#include "engine/runtime/waiting_calls.h"
#include "engine/runtime/work_threads.h"
#include "engine/store/session_store.h"

namespace mneme {

class HeldSession;

// The one Engine. Its parts lie in engine.cc (the whole), engine_models.cc,
// engine_sessions.cc, engine_storage.cc (what is done with stored sessions),
// engine_import.cc and engine_streams.cc.
class EngineImpl final : public Engine, private SessionHost {
 public:
  // `options.threads` is not 0.
  EngineImpl(const EngineOptions& options, std::unique_ptr<Backend> backend,
             std::unique_ptr<SessionStore> store);
  ~EngineImpl() override;
  // Finds the sessions of the store.
  absl::Status ReadStore();

  using Engine::CreateSession;
  using Engine::DeleteSession;
  using Engine::ImportSession;
  using Engine::UpdateSession;

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
  void CreateSession(const CreateSessionOptions& options,
                     Done<SessionInfo> done) override;
  void ForkSession(const ForkOptions& options, Done<SessionInfo> done) override;
  void Load(const std::string& id, const std::string& uid,
            Done<std::shared_ptr<SessionHold>> done) override;
  absl::StatusOr<SessionInfo> GetSession(const std::string& id) const override;
  void DescribeSession(const std::string& id, Done<SessionInfo> done) override;
  std::vector<SessionInfo> ListSessions(
      const std::string& after, int64_t limit,
      const SessionFilter& filter) const override;
  void UpdateSession(const UpdateSessionOptions& options,
                     Done<SessionInfo> done) override;
  void ResetSession(const ResetOptions& options,
                    Done<SessionInfo> done) override;
  void RollbackSession(const RollbackOptions& options,
                       Done<SessionInfo> done) override;
  void CreateSnapshot(const SnapshotOptions& options,
                      Done<SnapshotInfo> done) override;
  absl::StatusOr<std::vector<SnapshotInfo>> ListSnapshots(
      const std::string& session) const override;
  void DeleteSnapshot(const SnapshotOptions& options,
                      Done<SnapshotInfo> done) override;
  void ExportSession(const std::string& id, const std::string& snapshot,
                     Done<std::unique_ptr<SessionExport>> done) override;
  void ImportSession(const ImportOptions& options,
                     Done<std::unique_ptr<SessionImport>> done) override;
  absl::StatusOr<std::unique_ptr<SessionWatch>> WatchSession(
      const std::string& id, StreamListener* listener) override;
  void VerifySession(const std::string& id,
                     std::function<void(absl::Status)> done) override;
  void CommitSegment(const SegmentCommitOptions& options,
                     Done<SegmentCommit> done) override;
  void DeleteSession(const DeleteOptions& options,
                     Done<SessionInfo> done) override;
  absl::StatusOr<std::unique_ptr<AppendStream>> OpenAppend(
      const AppendOptions& options, StreamListener* listener) override;
  absl::StatusOr<std::unique_ptr<Generation>> Generate(
      const GenerateOptions& options, StreamListener* listener) override;
  absl::StatusOr<std::unique_ptr<Scoring>> Score(
      const ScoreOptions& options, StreamListener* listener) override;
  EngineStats stats() const override;
  absl::Status SetSessionMemory(int64_t bytes) override;
  std::vector<AnsweredRequest> TakeAnsweredRequests() override;
  int64_t Drain(absl::Time deadline) override;
  void Close() override;

 private:
  class Import;

  // Threads that read and write states beside the passes.
  static constexpr int kIoThreads = 2;
  static constexpr int kThreadsThatWait = 4;
  // Sessions that are looked at under one lock of their table.
  static constexpr int64_t kListChunk = 1000;
  // And the one that calls.
  static constexpr int kStoreThreads = kIoThreads + kThreadsThatWait + 1;

  // -- SessionHost -----------------------------------------------------------
  void StartOnCopy(const Session& session, const std::shared_ptr<Task>& task,
                   const SessionState& state, int64_t next_offset,
                   const InputQueue& pending) override;
  void Wake(std::shared_ptr<Session> session) override {
    scheduler_.Wake(std::move(session));
  }
  void Post(std::function<void()> work) override { io_.Post(std::move(work)); }
  void StartLoad(std::shared_ptr<Session> session) override;
  void OnIdle(const std::shared_ptr<Session>& session) override {
    residency_.OnIdle(session);
  }
  void OnSnapshotDue(const std::shared_ptr<Session>& session) override {
    waits_.Post([session] { session->StoreSnapshot(); });
  }
  absl::StatusOr<Replayed> Replay(const Session& session, const AskRecord& ask,
                                  ReplayedTask replayed) override;
  absl::StatusOr<ByteBudget::Reservation> Reserve(int64_t bytes,
                                                  const char* what) override {
    return residency_.Reserve(bytes, what);
  }
  void OnTaskResumed(const std::shared_ptr<Task>& task) override {
    tasks_.Add(task);
  }

  absl::Status CheckAdmitting() const;
  // UNAVAILABLE (DRAINING) once it is closed.
  absl::Status CheckOpen() const;
  absl::StatusOr<std::shared_ptr<const ServedModel>> FindModel(
      const std::string& name) const;
  // The one with the fingerprint; `name` is what its session called it.
  absl::StatusOr<std::shared_ptr<const ServedModel>> FindModelOf(
      const std::string& fingerprint, const std::string& name) const;
  // Ends what goes on with a session that was taken out of the table.
  void EndSession(const std::shared_ptr<Session>& session,
                  SessionEvent::Kind kind);
  // The session, if it is there and `uid` is empty or its own.
  absl::StatusOr<std::shared_ptr<Session>> FindSession(
      const std::string& id, const std::string& uid) const;
  // The same, in memory and held as `hold` says; null: it waits until it is.
  struct Held {
    std::shared_ptr<Session> session;
    std::shared_ptr<SessionHold> hold;
  };
  absl::StatusOr<Held> HoldSession(const std::string& id,
                                   const std::string& uid,
                                   const std::shared_ptr<SessionHold>& hold);
  // As Load, with no memory for a stream.
  void LoadOnly(const std::string& id, const std::string& uid,
                Done<std::shared_ptr<HeldSession>> done);
  // Tells `done` of the session once it is in memory, or cannot be; what was
  // loaded is let go of before.
  void TellLoaded(const std::shared_ptr<Session>& session,
                  Done<SessionInfo> done);
  // Memory for a stream: what `hold` keeps, if nobody took it yet.
  absl::StatusOr<ByteBudget::Reservation> TakeRoom(SessionHold& hold,
                                                   int64_t bytes,
                                                   const char* what);
  // Most that a stream takes, but for a copy of a state.
  static int64_t StreamBytes(const Model& model);
  // Gives it its model, if that is loaded.
  absl::Status BindModel(Session& session) const;
  ModelInfo Describe(const ServedModel& model) const;
  // Calls `work` at once if there are so many bytes of memory for it, else from
  // a thread that may wait for them.
  void WhenRoom(int64_t bytes, std::function<void()> work);
  // Brings a session into memory, has `work` done on it by a thread that may
  // wait, and answers with what comes of it.
  using SessionWork = std::function<absl::StatusOr<SessionInfo>(Session&)>;
  void WithLoaded(const std::shared_ptr<Session>& session,
                  const Done<SessionInfo>& done, SessionWork work);
  // Calls `work` with a session's state at hand: when it is quiet, or at rest
  // in the store.
  void WithQuiet(
      const std::shared_ptr<Session>& session,
      std::function<void(absl::Status status, Session& session)> work);
  // Puts a session that `record` tells of into the table and the store.
  void AddSession(SessionRecord record,
                  const std::shared_ptr<const ServedModel>& model,
                  const RequestTag<SessionInfo>& request,
                  SessionEventKind event, Done<SessionInfo> done);
  void AddWaiting(SessionRecord record,
                  const std::shared_ptr<const ServedModel>& model,
                  const RequestTag<SessionInfo>& request,
                  SessionEventKind event, Done<SessionInfo> done);
  // Has a new session begin with a snapshot that another one wrote.
  static void BeginAt(StoredSnapshot snapshot, SessionRecord& record);
  // Has `edit` done on a session, by a thread that may wait.
  void EditSession(const std::string& id, SessionEventKind event,
                   const Done<SessionInfo>& done,
                   std::function<absl::Status(Session&)> edit);
  // One of the store.
  absl::Status AddFound(FoundSession found);
  std::shared_ptr<Session> MakeSession(FoundSession stored,
                                       std::shared_ptr<const ServedModel> model,
                                       ByteBudget::Reservation index);
  // A record of a new session, checked.
  absl::StatusOr<SessionRecord> NewRecord(
      const std::string& id, const std::map<std::string, std::string>& labels,
      absl::Duration ttl, const ServedModel& model, SessionUnit unit);
  void ForkFrom(Session& source, const StoredSnapshot* base,
                const ForkOptions& options, Done<SessionInfo> done);
  // Removes what is stored of a session that is gone, if need be later.
  void Erase(const std::string& uid);
  std::vector<std::string> TakeUnerased();
  // Deletes the sessions that have expired, and ends the generations whose
  // readers let them wait for too long.
  void Tick();
  // The kept answer to the request id of `options`; null if there is none.
  absl::StatusOr<std::unique_ptr<Generation>> Attach(
      const Held& held, const GenerateOptions& options,
      StreamListener* listener);
  // What can be said of an import before its file comes.
  absl::Status CheckImport(const ImportOptions& options) const;
  absl::Status StartSegmentCommit(const Held& held,
                                  const SegmentCommitOptions& options,
                                  const Done<SegmentCommit>& done);
  // Gives `task` its memory, `scratch_bytes` of it its own, and its place in
  // the session.
  absl::Status StartTask(const Held& held, const std::shared_ptr<Task>& task,
                         Prompt prompt, int64_t scratch_bytes = 0,
                         KeptReply kept = {});
  absl::Status Rejected(const std::string& model, absl::Status status) const;
  std::string RandomHex(int words);

  const int threads_;
  const ModelSettings model_settings_;
  const Session::Limits limits_;
  const Clock* const clock_;
  Observer no_observer_;
  Observer* const observer_;
  const std::unique_ptr<Backend> backend_;
  ByteBudget budget_;
  ByteBudget index_;  // only counts
  const std::unique_ptr<SessionStore> store_;
  BufferPool buffers_{kIoThreads};  // of what goes to the store and comes back
  TaskRegistry tasks_;
  WaitingCalls calls_;
  SessionTable sessions_;
  Residency residency_;

  mutable absl::Mutex mutex_;
  absl::BitGen random_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // On the monotonic clock; not before.
  absl::Duration next_compaction_ ABSL_GUARDED_BY(mutex_) =
      -absl::InfiniteDuration();
  // Sessions that are gone, and that the store has not let go of yet.
  std::vector<std::string> unerased_ ABSL_GUARDED_BY(mutex_);
  // Null while it is being loaded.
  std::map<std::string, std::shared_ptr<const ServedModel>> models_
      ABSL_GUARDED_BY(mutex_);
  std::vector<AnsweredRequest> answered_ ABSL_GUARDED_BY(mutex_);

  RoomQueue rooms_;
  Scheduler scheduler_;      // before what still uses it when it ends
  WorkThreads waits_;        // for what waits until a session is free
  WorkThreads io_;           // for what waits for nothing but the store
  Housekeeper housekeeper_;  // last: it uses all of the above
};

}  // namespace mneme

#endif  // MNEME_ENGINE_ENGINE_IMPL_H_
