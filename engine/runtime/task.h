// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_TASK_H_
#define MNEME_ENGINE_RUNTIME_TASK_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/byte_budget.h"
#include "engine/runtime/input_queue.h"
#include "engine/runtime/lane.h"
#include "engine/runtime/types.h"
#include "engine/state/session_state.h"
#include "engine/store/journal_record.h"
#include "engine/store/store_types.h"
#include "engine/tensor/tensor.h"

namespace mneme {

// What the journal says of a task that is made again from it.
struct ReplayedTask {
  std::vector<TakenToken> said;
  absl::optional<EndRecord> end;  // none: it was cut off
};

// Where a task writes down what becomes part of the history it works on.
class HistorySink {
 public:
  virtual ~HistorySink() = default;
  virtual int64_t next_offset() const = 0;
  // A token that came in or that the model said, with the bytes it stands for
  // in a text session.
  virtual void RecordToken(int32_t token, std::string_view bytes) = 0;
};

// What computes something that was asked of a state: a generation, a scoring,
// the commit of a segment. Its lane drives it, always from the scheduler's
// thread; its stream talks to it from any other, through Cancel and what the
// subclass adds.
class Task {
 public:
  virtual ~Task() = default;

  // The lane that drives it, to be woken when the stream has done something;
  // null before it has one and after it is done.
  std::shared_ptr<Lane> lane() const {
    absl::MutexLock lock(&lane_mutex_);
    return lane_;
  }
  void SetLane(std::shared_ptr<Lane> lane) {
    absl::MutexLock lock(&lane_mutex_);
    lane_.swap(lane);
  }

  // Thread-safe: its lane ends it with `status` when it is planned next; with
  // kWaiting only if it still waits for others, or for input to be computed.
  enum class AbortIf { kAny, kWaiting };
  void Abort(absl::Status status, AbortIf which = AbortIf::kAny) {
    absl::MutexLock lock(&lane_mutex_);
    aborted_ = std::move(status);
    abort_if_ = which;
    is_aborted_ = true;
  }
  // OK if it may go on.
  absl::Status aborted(bool waiting) const {
    if (!is_aborted_) return absl::OkStatus();
    absl::MutexLock lock(&lane_mutex_);
    return waiting || abort_if_ == AbortIf::kAny ? aborted_ : absl::OkStatus();
  }

  // Memory for its stream, and for the copy of a state that it works on.
  void Hold(ByteBudget::Reservation reservation) {
    reservation_ = std::move(reservation);
  }

  // Input that comes before it. Its lane takes it when the task's turn has
  // come, and says how many tokens it became, those of text that was pending
  // included.
  void SetPrompt(Prompt prompt) { prompt_ = std::move(prompt); }
  Prompt TakePrompt() { return std::exchange(prompt_, {}); }
  const Prompt& prompt() const { return prompt_; }
  void CountPromptTokens(int64_t tokens) { prompt_tokens_ += tokens; }
  int64_t prompt_tokens() const { return prompt_tokens_; }

  // Whether it works on the session's own state or on a copy that is thrown
  // away.
  virtual bool commits() const = 0;
  virtual SessionActivity activity() const = 0;

  // Of one that commits: what the journal is told before it begins, but for
  // its prompt and where that is.
  virtual AskRecord DescribeAsk() const { return {}; }
  // Its turn has come: from now on it waits for computing, not for others.
  virtual void Begin() = 0;
  // After Begin, and with its prompt in the state or its tail: the next pass
  // it wants, after putting the tokens for it into the tail.
  // kNone with done() false: it waits for its stream and will wake the lane.
  virtual Demand Plan(SessionState& state, HistorySink& history) = 0;
  virtual bool done() const = 0;
  // Whether Plan has called SessionState::Ask.
  virtual bool asked() const { return false; }
  // Of one that is made from the journal: it has done all that the journal
  // says, but has not come to its end. Goes on when it is planned again, after
  // Resume.
  virtual bool suspended() const { return false; }
  virtual void Resume() {}
  // Whether it goes on though no stream waits for it.
  virtual bool unattended() const { return false; }

  // Whether the journal is told of its end.
  virtual bool ends_in_journal() const { return true; }
  // Of one that commits and is done: how it came to its end; and then, once
  // what it made history is stored up to `durable_offset`, or could not be:
  // only now its stream is told.
  virtual EndRecord DescribeEnd() const { return {}; }
  // What is remembered of the request for it, together with its end.
  virtual absl::optional<RememberedRequest> DescribeRequest(
      absl::Time /*now*/) const {
    return absl::nullopt;
  }
  virtual void Settle(const absl::Status& /*stored*/,
                      int64_t /*durable_offset*/) {}

  // The logits of the demanded pass; computes on them, touching no state.
  virtual void OnLogits(ConstRows logits) = 0;
  // The pass was committed to `state`.
  virtual void OnCommitted(SessionState& state, HistorySink& history) = 0;

  // Ends it with `status`, unless it is done.
  virtual void Fail(const absl::Status& status, const HistorySink& history,
                    int64_t position) = 0;

  // Thread-safe: ends it soon, once its lane is woken.
  virtual void Cancel() = 0;

  // Thread-safe: cancels it if its stream has let it wait for too long, by
  // `now` on the monotonic clock. True if it did: then its lane is to be woken.
  virtual bool CancelIfUnread(absl::Duration /*now*/) { return false; }

  // Tells the stream's listener. REQUIRES: no lock held.
  virtual void Notify() = 0;

 private:
  mutable absl::Mutex lane_mutex_;
  std::shared_ptr<Lane> lane_ ABSL_GUARDED_BY(lane_mutex_);
  absl::Status aborted_ ABSL_GUARDED_BY(lane_mutex_);
  AbortIf abort_if_ ABSL_GUARDED_BY(lane_mutex_) = AbortIf::kAny;
  std::atomic<bool> is_aborted_ = false;
  ByteBudget::Reservation reservation_;
  Prompt prompt_;
  int64_t prompt_tokens_ = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_TASK_H_
