// SPDX-License-Identifier: Apache-2.0
//
// One thread that turns what lanes want into passes over the weights. Lanes
// with work wait in two queues per model: steps (decode, and tails that output
// is wanted of) and blocks (prefill). In turn, each model gets one pass with
// as many steps as fit and one with the oldest block; what wants more goes to
// the back of its queue. So a long prefill delays a chat by one block at most,
// and sessions share evenly.
#ifndef MNEME_ENGINE_RUNTIME_SCHEDULER_H_
#define MNEME_ENGINE_RUNTIME_SCHEDULER_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/clock.h"
#include "engine/runtime/lane.h"
#include "engine/runtime/observer.h"
#include "engine/tensor/workspace.h"

namespace mneme {

// Thread-safe.
class Scheduler {
 public:
  // `clock` and `observer` outlive it.
  Scheduler(const Clock* clock, Observer* observer);
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;
  // Ends the pass that runs; lanes that wait are dropped.
  ~Scheduler();

  // Makes room for passes over `model`, which is called `name`.
  // RESOURCE_EXHAUSTED if the memory is refused.
  absl::Status AddModel(const std::string& name,
                        std::shared_ptr<const Model> model);

  // Gives back what passes over `model` need, once no lane of it waits; no
  // lane of it may be woken any more but to end.
  void RemoveModel(const Model& model);

  // The lane may have work. Its model was added.
  void Wake(std::shared_ptr<Lane> lane);

  // Calls `work` while no pass runs, soon: for what changes the backend.
  void WithoutPasses(absl::FunctionRef<void()> work);

  // Lanes whose work no pass has taken.
  int64_t waiting() const { return waiting_.load(std::memory_order_relaxed); }

 private:
  struct Waiting {
    std::shared_ptr<Lane> lane;
    Demand demand;
  };
  struct ModelQueue {
    std::string name;
    std::shared_ptr<const Model> model;
    std::unique_ptr<Workspace> workspace;
    std::deque<Waiting> steps;
    std::deque<Waiting> blocks;
    bool removed = false;  // guarded by mutex_
  };

  void Loop();
  // Plans the lanes that were woken since; waits for one if nothing is
  // queued. False when stopping.
  bool TakeWoken();
  // Drops removed models that nothing waits for, and renews order_.
  void TakeModels(std::vector<std::unique_ptr<ModelQueue>>& dropped)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PlanLane(std::shared_ptr<Lane> lane);
  void RunSteps(ModelQueue& queue);
  void RunBlock(ModelQueue& queue);
  // One pass over those of `batch` that can begin.
  void RunPass(ModelQueue& queue, ComputePath path);

  const Clock* const clock_;
  Observer* const observer_;

  absl::Mutex pass_mutex_;  // held while a pass runs
  absl::Mutex mutex_;
  std::deque<std::shared_ptr<Lane>> woken_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<const Model*, std::unique_ptr<ModelQueue>> queues_
      ABSL_GUARDED_BY(mutex_);
  bool models_changed_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<int64_t> waiting_{0};

  // The scheduler thread's own.
  std::vector<ModelQueue*> order_;
  std::vector<std::shared_ptr<Lane>> planning_;
  std::vector<Waiting> batch_;
  std::vector<ModelSlice> slices_;
  std::vector<int64_t> waiting_rows_;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SCHEDULER_H_
