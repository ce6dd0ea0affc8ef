// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_FAULT_ENGINE_SCRIPT_H_
#define MNEME_TESTS_FAULT_ENGINE_SCRIPT_H_

#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "tests/support/later.h"

namespace mneme {

// Calls `start` with a function that takes the outcome, and waits for it, a
// minute at most.
template <typename T>
absl::StatusOr<T> Outcome(
    absl::FunctionRef<void(const Engine::Done<T>&)> start) {
  const Later<T> told;
  start(told.done());
  absl::StatusOr<T> outcome = told.Await(absl::Minutes(1));
  if (!told.told()) return absl::InternalError("a call did not end");
  return outcome;
}

// What is done to one session, step by step, as a seed alone says. It outlives
// engines: a step that failed is done again, by the same engine or the next,
// and in the end all is as if none had failed. Not thread-safe.
class EngineScript {
 public:
  EngineScript(int seed, int number, const std::string& model);

  const std::string& id() const { return id_; }
  int next_step() const { return next_step_; }

  // The next step. An error of the engine's is returned, and leaves it to be
  // done again; what must not be is INTERNAL, and names the session.
  absl::Status Do(Engine& engine);

  // Whether the session is there with all that was promised of it.
  absl::Status Check(Engine& engine) const;

 private:
  absl::Status DoStep(Engine& engine, std::mt19937& random);
  absl::Status Create(Engine& engine);
  absl::Status Append(Engine& engine, std::mt19937& random);
  absl::Status Generate(Engine& engine, std::mt19937& random);
  absl::Status RollBackTo(Engine& engine, int64_t offset);
  absl::Status RollBackToSnapshot(Engine& engine, std::mt19937& random);
  absl::Status Reset(Engine& engine);
  absl::Status Fork(Engine& engine);
  absl::Status Keep(Engine& engine);
  absl::Status Drop(Engine& engine, std::mt19937& random);
  absl::Status Label(Engine& engine);
  absl::Status CommitSegment(Engine& engine);

  absl::Status Wrong(const std::string& what) const;
  // What a call that moved the session answered.
  absl::Status Moved(const absl::StatusOr<SessionInfo>& info, int64_t wanted);

  const int seed_;
  const int number_;
  const std::string id_;
  const std::string model_;
  bool created_ = false;
  int next_step_ = 0;
  int64_t next_offset_ = 0;
  int64_t promised_ = 0;         // the highest offset said to be durable
  int64_t floor_ = 0;            // the lowest that it can be taken back to
  std::vector<int64_t> begins_;  // of each step
  std::map<std::string, int64_t> snapshots_;  // those kept, and their offsets
  std::vector<std::string> forks_;            // those that are there
  std::string dropping_;  // of them, what may be gone already
};

// All that is to be the same in the end, by session. With an error, none.
absl::StatusOr<std::map<std::string, std::string>> Findings(Engine& engine);

}  // namespace mneme

#endif  // MNEME_TESTS_FAULT_ENGINE_SCRIPT_H_
