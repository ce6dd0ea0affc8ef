// SPDX-License-Identifier: Apache-2.0
//
// The answer of a generation: what was said, how much of it may be seen, and
// how it ended. Its task writes it, one stream at a time reads it through a
// cursor, and its session may keep it when both are gone:
//
//     tokens     [ gone | kept .................................. ]
//     cursor                       ^ what the stream has seen
//     shown                                   ^ what may be seen
//
// Only the last tokens are kept, a fixed number of bytes; their text is made
// again from their ids. Offsets here count from the answer's beginning, in
// the session's unit.
#ifndef MNEME_ENGINE_RUNTIME_REPLY_H_
#define MNEME_ENGINE_RUNTIME_REPLY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "engine/runtime/notifier.h"
#include "engine/runtime/served_model.h"
#include "engine/runtime/types.h"
#include "engine/text/sampler.h"

namespace mneme {

// Thread-safe.
class Reply {
 public:
  // Tokens that may be seen and were not, from where a generation waits.
  static constexpr int64_t kMaxUnread = 128;
  // Most that one takes.
  static constexpr int64_t kMaxBytes = 64 << 10;

  struct Setup {
    std::shared_ptr<const ServedModel> model;
    SessionUnit unit = SessionUnit::kText;
    int64_t max_tokens = 0;
    bool logprobs = false;
    int64_t top_logprobs = 0;
    // Whether the generation waits for a slow reader.
    bool waits = true;
    // Whether what is said may have been seen before, by someone who goes on
    // from there.
    bool said_again = false;
  };

  explicit Reply(Setup setup);

  // -- The task's side -------------------------------------------------------

  void Begin(int64_t ask_position, int64_t offset);

  // A token that was said; `top` has the most likely, where asked for.
  // `shown_tokens` and `shown_units` of the whole answer may now be seen.
  void Add(const LikelyToken& said, absl::Span<const LikelyToken> top,
           int64_t shown_tokens, int64_t shown_units);

  // Whether to wait for the reader, from `now` on the monotonic clock.
  bool Crowded(absl::Duration now);

  // The answer is at its end, as `finished` says, with so much to be seen.
  // With `unsettled` that is not told before Settle. False if no stream reads
  // it.
  bool Finish(GenerateEvent finished, int64_t shown_tokens, int64_t shown_units,
              bool unsettled = false);
  // It is stored up to `durable_offset`, or could not be.
  void Settle(const absl::Status& stored, int64_t durable_offset);

  // Tells the stream's listener. REQUIRES: no lock held.
  void Notify();

  // Whether the task has waited for the reader for kReaderPatience.
  bool Stuck(absl::Duration now) const;

  // -- The streams' side -----------------------------------------------------

  // A stream's place. Guarded by its reply, but for the notifier.
  struct Reader {
    explicit Reader(StreamListener* listener) : notifier(listener) {}
    Notifier notifier;
    bool attached = false;  // to what another request began
    bool started = false;   // has seen kStarted
    bool ended = false;     // has seen kFinished
    int64_t token = 0;      // the next to be seen to its end
    int64_t token_offset = 0;
    int64_t offset = 0;  // up to here it was seen
    // It saw so much of an answer that a crash cut off, and that is said again.
    int64_t skip_to = 0;
  };

  // The first reader. `listener` outlives it.
  std::shared_ptr<Reader> Open(StreamListener* listener);

  // A reader that begins at `output_offset` of the history (0: with the
  // answer), instead of the one that there is: that ends ABORTED (TAKEN_OVER).
  // The caller wakes the task's lane. Of one that is said again what comes is
  // left out up to there. OUT_OF_RANGE (OFFSET_NOT_KEPT) if no kept token
  // begins there.
  absl::StatusOr<std::shared_ptr<Reader>> Attach(int64_t output_offset,
                                                 StreamListener* listener);

  // As Generation::Poll. `*resume` is set if the task waited and its lane has
  // to be woken.
  absl::optional<GenerateEvent> Poll(Reader& reader, bool* resume);

  // `reader` will not poll again.
  enum class Left {
    kRunning,    // the answer is not at its end, and nobody reads it
    kFinished,   // it is
    kTakenOver,  // another reads it
  };
  Left Leave(const std::shared_ptr<Reader>& reader);

  // Whether it ended before it began: nothing was accepted for it.
  bool NeverBegan() const;
  // Whether it is at its end.
  bool finished() const;

  // Appends it to `out`, without readers; see engine/state/FORMAT.md.
  // REQUIRES: finished().
  void Encode(std::string& out) const;
  // The reply that was encoded, which nobody reads. DATA_LOSS for bytes that
  // none of this model and unit has.
  static absl::StatusOr<std::shared_ptr<Reply>> Decode(
      std::string_view in, std::shared_ptr<const ServedModel> model,
      SessionUnit unit);

 private:
  // Stands behind a token that has fewer likely ones beside it.
  static constexpr int32_t kNoToken = -1;

  // Checks what was decoded; an empty string if nothing is wrong.
  std::string WhatIsWrong() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  int64_t UnitsOf(int32_t token) const;
  const LikelyToken& at(int64_t token) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return ring_[token % capacity_ * stride_];
  }
  int64_t first_kept() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return tokens_ > capacity_ ? tokens_ - capacity_ : 0;
  }
  absl::Status NotKept(int64_t wanted, int64_t nearest) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  GenerateEvent Output(Reader& reader) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  TokenLogprob LogprobOf(int64_t token) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);

  const Setup setup_;
  const int64_t stride_;    // entries of a token: itself and the likely ones
  const int64_t capacity_;  // tokens

  mutable absl::Mutex mutex_;
  // [capacity_, stride_] Token i lies at i % capacity_.
  std::vector<LikelyToken> ring_ ABSL_GUARDED_BY(mutex_);
  int64_t tokens_ ABSL_GUARDED_BY(mutex_) = 0;        // said
  int64_t kept_offset_ ABSL_GUARDED_BY(mutex_) = 0;   // of the first kept
  int64_t shown_tokens_ ABSL_GUARDED_BY(mutex_) = 0;  // may be seen whole
  int64_t shown_units_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::optional<GenerateEvent> started_ ABSL_GUARDED_BY(mutex_);
  absl::optional<GenerateEvent> finished_ ABSL_GUARDED_BY(mutex_);
  bool settled_ ABSL_GUARDED_BY(mutex_) = true;
  std::shared_ptr<Reader> reader_ ABSL_GUARDED_BY(mutex_);  // null: none
  absl::optional<absl::Duration> waiting_since_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_REPLY_H_
