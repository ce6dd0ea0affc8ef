// SPDX-License-Identifier: Apache-2.0
//
// Carries the engine's wake-ups to the reactors of open streams. The engine
// only notes that a stream may get further; a thread of the pump then polls
// the stream, builds the message and starts the write. So the engine's
// threads never pay for serializing or for a system call, and a reactor is
// free to destroy its engine stream while it advances, which it could not do
// inside OnProgress.
#ifndef MNEME_SERVER_STREAM_PUMP_H_
#define MNEME_SERVER_STREAM_PUMP_H_

#include <cstdint>
#include <deque>
#include <thread>
#include <unordered_set>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/engine.h"

namespace mneme::server {

class PumpedStream;

// Thread-safe. Outlives its streams.
class StreamPump {
 public:
  StreamPump();
  ~StreamPump();
  StreamPump(const StreamPump&) = delete;
  StreamPump& operator=(const StreamPump&) = delete;

  // From now on draining() is true; every stream is woken to see it.
  void Drain();
  bool draining() const;

  int64_t streams() const;  // that are open

  // Waits until no stream is open. False if `timeout` passed before.
  bool AwaitEmpty(absl::Duration timeout);

 private:
  friend class PumpedStream;

  void Join(PumpedStream* stream);
  // Returns when the stream is not being advanced and will not be again.
  void Leave(PumpedStream* stream);
  void Wake(PumpedStream* stream);
  void Run();
  bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return stopping_ || !ready_.empty();
  }

  mutable absl::Mutex mu_;
  std::unordered_set<PumpedStream*> streams_ ABSL_GUARDED_BY(mu_);
  // Each stream at most once: PumpedStream::queued_ tells.
  std::deque<PumpedStream*> ready_ ABSL_GUARDED_BY(mu_);
  PumpedStream* advancing_ ABSL_GUARDED_BY(mu_) = nullptr;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

// A stream of the engine as its reactor drives it. The pump calls it between
// JoinPump and LeavePump.
class PumpedStream : public StreamListener {
 public:
  explicit PumpedStream(StreamPump* pump) : pump_(pump) {}

  void OnProgress() final { pump_->Wake(this); }

  // Does what can be done now. Called on the pump's thread after each wake-up
  // (several may become one call), and by the reactor itself.
  virtual void Advance() = 0;

 protected:
  StreamPump* pump() const { return pump_; }

  // Once, as soon as Advance may be called and before the engine's stream is
  // opened.
  void JoinPump() { pump_->Join(this); }

  // Once, before destruction, when no engine stream can call OnProgress any
  // more, and not inside Advance.
  void LeavePump() { pump_->Leave(this); }

 private:
  friend class StreamPump;

  StreamPump* const pump_;
  bool queued_ = false;  // guarded by the pump's lock
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_STREAM_PUMP_H_
