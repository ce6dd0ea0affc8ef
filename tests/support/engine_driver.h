// SPDX-License-Identifier: Apache-2.0
//
// The engine's streams, driven to their end on the calling thread.
#ifndef MNEME_TESTS_SUPPORT_ENGINE_DRIVER_H_
#define MNEME_TESTS_SUPPORT_ENGINE_DRIVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/engine.h"

namespace mneme {

// A listener that one waits on.
class ProgressWaiter final : public StreamListener {
 public:
  void OnProgress() override {
    absl::MutexLock lock(&mutex_);
    progress_ = true;
  }
  // Until OnProgress was called since the last Wait; false after a minute.
  bool Wait() {
    absl::MutexLock lock(&mutex_);
    const bool came =
        mutex_.AwaitWithTimeout(absl::Condition(&progress_), absl::Minutes(1));
    progress_ = false;
    return came;
  }

 private:
  absl::Mutex mutex_;
  bool progress_ = false;
};

// Appends `payload` in segments of `sizes`, repeated as needed (empty: one
// segment), and waits until all is absorbed.
absl::Status AppendAll(Engine& engine, const std::string& session,
                       const Payload& payload,
                       const std::vector<int64_t>& sizes = {});

struct Generated {
  std::vector<int32_t> tokens;
  std::string text;
  std::vector<TokenLogprob> logprobs;
  GenerateEvent started;
  GenerateEvent finished;
};
// Generates to the end. A failed generation is an error.
absl::StatusOr<Generated> GenerateAll(Engine& engine,
                                      const GenerateOptions& options);
// The rest of a generation that `waiter` listens to.
absl::StatusOr<Generated> ReadAll(Generation& generation,
                                  ProgressWaiter& waiter);

struct Scored {
  std::vector<ScoreEvent::Token> tokens;
  ScoreEvent finished;
};
absl::StatusOr<Scored> ScoreAll(Engine& engine, const ScoreOptions& options,
                                const Payload& payload,
                                const std::vector<int64_t>& sizes = {});

// With digests.
absl::StatusOr<SessionInfo> Describe(Engine& engine, const std::string& id);

// What takes a `done`, waited for.
absl::StatusOr<SessionInfo> Fork(Engine& engine, const ForkOptions& options);
absl::StatusOr<SessionInfo> Reset(Engine& engine, const ResetOptions& options);
absl::StatusOr<SessionInfo> Rollback(Engine& engine,
                                     const RollbackOptions& options);
absl::StatusOr<SnapshotInfo> KeepSnapshot(Engine& engine,
                                          const SnapshotOptions& options);
absl::StatusOr<SegmentCommit> CommitSegment(Engine& engine,
                                            const std::string& id);
absl::StatusOr<std::unique_ptr<SessionExport>> Export(Engine& engine,
                                                      const std::string& id);
absl::StatusOr<SessionInfo> Finish(SessionImport& import);

// Pieces of a payload, of `sizes` repeated as needed.
std::vector<Payload> Cut(const Payload& payload,
                         const std::vector<int64_t>& sizes);

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_ENGINE_DRIVER_H_
