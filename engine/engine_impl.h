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
#include "engine/base/byte_budget.h"
#include "engine/base/machine.h"
#include "engine/engine.h"
#include "engine/ops/backend.h"
#include "engine/runtime/housekeeper.h"
#include "engine/runtime/scheduler.h"
#include "engine/runtime/served_model.h"
#include "engine/runtime/session.h"
#include "engine/runtime/session_streams.h"
#include "engine/runtime/session_table.h"

namespace mneme {

// The one Engine. Its parts lie in engine.cc (the whole), engine_models.cc,
// engine_sessions.cc and engine_streams.cc.
class EngineImpl final : public Engine {
 public:
  // `options.threads` is not 0.
  EngineImpl(const EngineOptions& options, std::unique_ptr<Backend> backend)
      : threads_(options.threads),
        model_settings_(options.model_settings),
        clock_(options.clock),
        observer_(options.observer != nullptr ? options.observer
                                              : &no_observer_),
        backend_(std::move(backend)),
        budget_(options.session_memory_bytes > 0 ? options.session_memory_bytes
                                                 : MemoryBytes() / 2),
        scheduler_(clock_, observer_),
        housekeeper_(/*period=*/absl::Seconds(1), [this] { Expire(); }) {}

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
  void CommitSegment(
      const std::string& id, const std::string& uid,
      std::function<void(absl::StatusOr<SegmentCommit>)> done) override;
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
                   const std::function<void(absl::StatusOr<SessionInfo>)>& done,
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
  absl::Status StartSegmentCommit(
      const std::string& id, const std::string& uid,
      const std::function<void(absl::StatusOr<SegmentCommit>)>& done);
  // Gives `task` its memory, `scratch_bytes` of it its own, and its place in
  // `session`.
  absl::Status StartTask(const std::shared_ptr<Session>& session,
                         const std::shared_ptr<Task>& task, Prompt prompt,
                         int64_t scratch_bytes = 0, KeptReply kept = {});
  void StartOnCopy(const Session& session, const std::shared_ptr<Task>& task,
                   const SessionState& state, int64_t next_offset,
                   const InputQueue& pending);
  absl::Status Rejected(const std::string& model, absl::Status status) const;
  std::string RandomHex(int words);

  const int threads_;
  const ModelSettings model_settings_;
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

}  // namespace mneme

#endif  // MNEME_ENGINE_ENGINE_IMPL_H_
