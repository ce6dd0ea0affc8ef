// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_GENERATION_TASK_H_
#define MNEME_ENGINE_RUNTIME_GENERATION_TASK_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/clock.h"
#include "engine/runtime/notifier.h"
#include "engine/runtime/observer.h"
#include "engine/runtime/served_model.h"
#include "engine/runtime/task.h"
#include "engine/text/sampler.h"

namespace mneme {

// A generation: the Ask, then one step per token until something ends it.
class GenerationTask final : public Task {
 public:
  struct Setup {
    std::shared_ptr<const ServedModel> model;
    SessionUnit unit = SessionUnit::kText;
    uint64_t seed = 0;
    const Clock* clock = nullptr;
    Observer* observer = nullptr;
  };

  GenerationTask(GenerateOptions options, Setup setup,
                 StreamListener* listener);

  bool commits() const override { return options_.commit; }
  SessionActivity activity() const override {
    return SessionActivity::kGenerating;
  }
  void Begin() override;
  Demand Plan(SessionState& state, HistorySink& history) override;
  bool done() const override;
  void OnLogits(ConstRows logits) override;
  void OnCommitted(SessionState& state, HistorySink& history) override;
  void Fail(const absl::Status& status, const HistorySink& history,
            int64_t position) override;
  void Cancel() override;
  void Notify() override { notifier_.Notify(); }

  // The next event. `*resume` is set if the task had paused for want of room
  // and its lane has to be woken.
  absl::optional<GenerateEvent> Poll(bool* resume);
  void Detach() { notifier_.Detach(); }

 private:
  enum class Phase { kAsk, kDecode, kFlush, kDone };

  bool IsStop(int32_t token) const;
  void Finish(const absl::Status& status, int64_t next_offset, int64_t position)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const GenerateOptions options_;
  const Setup setup_;
  const absl::Duration arrival_;  // on the monotonic clock
  Notifier notifier_;

  // The scheduler thread's own.
  Sampler sampler_;
  Phase phase_ = Phase::kAsk;
  int64_t sample_position_ = 0;
  absl::optional<int32_t> sampled_;
  float sampled_logprob_ = 0;
  bool sampling_ = false;  // the pass under way is for a token
  FinishReason reason_ = FinishReason::kLength;
  absl::optional<int32_t> stop_token_;
  absl::Duration first_pass_, first_token_, last_token_;
  GenerateStats stats_;

  mutable absl::Mutex mutex_;
  std::deque<GenerateEvent> events_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_GENERATION_TASK_H_
