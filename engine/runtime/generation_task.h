// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_GENERATION_TASK_H_
#define MNEME_ENGINE_RUNTIME_GENERATION_TASK_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/clock.h"
#include "engine/runtime/observer.h"
#include "engine/runtime/reply.h"
#include "engine/runtime/served_model.h"
#include "engine/runtime/task.h"
#include "engine/text/reply_filter.h"
#include "engine/text/sampler.h"

namespace mneme {

// What `options` say of sampling, with the seed that is used.
Sampling MakeSampling(const SamplingOptions& options, uint64_t seed);

// A generation: the Ask, then one step per token until something ends it. What
// it says goes into its reply.
class GenerationTask final : public Task {
 public:
  struct Setup {
    std::shared_ptr<const ServedModel> model;
    SessionUnit unit = SessionUnit::kText;
    uint64_t seed = 0;
    std::shared_ptr<Reply> reply;
    LoadReport load;
    const Clock* clock = nullptr;
    Observer* observer = nullptr;
    // Of one that the journal holds: what it said before is not sampled again.
    absl::optional<ReplayedTask> replayed;
    // Called when it ends and no stream reads its reply.
    std::function<void(const Task&)> on_unread_end;
  };

  // Of `options` the prompt is not looked at.
  GenerationTask(GenerateOptions options, Setup setup);

  const std::shared_ptr<Reply>& reply() const { return setup_.reply; }
  OnDisconnect on_disconnect() const { return options_.on_disconnect; }

  bool commits() const override { return options_.commit; }
  SessionActivity activity() const override {
    return SessionActivity::kGenerating;
  }
  AskRecord DescribeAsk() const override;
  void Begin() override;
  Demand Plan(SessionState& state, HistorySink& history) override;
  bool done() const override;
  bool asked() const override { return phase_ != Phase::kAsk; }
  bool suspended() const override { return suspended_; }
  void Resume() override;
  bool unattended() const override {
    return options_.on_disconnect == OnDisconnect::kFinish;
  }
  EndRecord DescribeEnd() const override;
  void Settle(const absl::Status& stored, int64_t durable_offset) override {
    setup_.reply->Settle(stored, durable_offset);
  }
  void OnLogits(ConstRows logits) override;
  void OnCommitted(SessionState& state, HistorySink& history) override;
  void Fail(const absl::Status& status, const HistorySink& history,
            int64_t position) override;
  void Cancel() override { CancelFor(FinishReason::kCancelled); }
  bool CancelIfUnread(absl::Duration now) override;
  void Notify() override { setup_.reply->Notify(); }

  // As Cancel, for kCancelled or kDeadline.
  void CancelFor(FinishReason reason);

 private:
  enum class Phase { kAsk, kDecode, kFlush, kDone };

  // Why it was cancelled.
  struct Cancellation {
    FinishReason reason = FinishReason::kCancelled;
    absl::Status status;  // for who still reads
  };

  absl::optional<Cancellation> cancellation() const;
  // Whether a history of so many tokens takes no more.
  bool AtLimit(int64_t position) const;
  bool IsStop(int32_t token) const;
  // Whether the next token is one that was said before.
  bool replays() const { return next_said_ < said_before().size(); }
  absl::Span<const TakenToken> said_before() const {
    if (!setup_.replayed.has_value()) return {};
    return setup_.replayed->said;
  }
  // What was said before in one pass, as far as it fits: the rows of a step are
  // the same together as one by one.
  void ReplayAhead(SessionState& state, HistorySink& history);
  // The next token is `token`.
  void TakeToken(int32_t token, SessionState& state, HistorySink& history);
  // What the journal says of the end, once all is said that it knows of.
  void EndAsBefore(const SessionState& state);
  // Takes a token that goes into the reply. False if a stop string ends it.
  bool Show(std::string_view text);
  int64_t shown_tokens() const;
  int64_t shown_units() const;
  void Finish(const absl::Status& status, int64_t next_offset,
              int64_t position);

  const GenerateOptions options_;
  const Setup setup_;
  const absl::Duration arrival_;  // on the monotonic clock

  // The scheduler thread's own.
  Phase phase_ = Phase::kAsk;
  Sampler sampler_;
  std::vector<int32_t> recent_;  // that the sampler wants to know
  int64_t sample_position_ = 0;
  absl::optional<int32_t> sampled_;
  LikelyToken said_;
  std::vector<LikelyToken> top_;
  bool sampling_ = false;    // the pass under way is for a token
  ReplyFilter filter_;       // of a text session
  int64_t said_tokens_ = 0;  // that go into the reply
  size_t next_said_ = 0;     // of what was said before
  bool suspended_ = false;
  // As far as the tail before the first token is computed in any case.
  int64_t end_computed_tokens_ = std::numeric_limits<int64_t>::max();
  FinishReason reason_ = FinishReason::kLength;
  absl::Status failed_;  // it ends with this
  absl::Status ended_;   // it ended with this
  absl::optional<int32_t> stop_token_;
  absl::Duration first_pass_, first_token_, last_token_;
  GenerateStats stats_;

  mutable absl::Mutex mutex_;
  absl::optional<Cancellation> cancelled_ ABSL_GUARDED_BY(mutex_);
  bool resumed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_GENERATION_TASK_H_
