// SPDX-License-Identifier: Apache-2.0
//
// The three conversations that one can have with a session. All follow one
// pattern: whoever drives a stream offers input and polls output, neither of
// which blocks, and a listener is told whenever polling or offering may get
// further than the last time.
//
// Every stream is thread-safe. Destroying a stream cancels what it still
// wants, unless it was agreed otherwise; no listener call is running or will
// come after the destructor returned, so it must not run inside one, nor under
// a lock that OnProgress takes.
#ifndef MNEME_ENGINE_RUNTIME_STREAMS_H_
#define MNEME_ENGINE_RUNTIME_STREAMS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/runtime/types.h"

namespace mneme {

// How long a generation waits for its stream to be polled.
inline constexpr absl::Duration kReaderPatience = absl::Seconds(60);

// Told from a thread of the engine; returns quickly, may call the stream.
class StreamListener {
 public:
  virtual ~StreamListener() = default;
  virtual void OnProgress() = 0;
};

enum class Offer {
  kTaken,
  // No room, or a generation is the writer now: keep the piece and offer it
  // again after OnProgress.
  kLater,
};

// The writer of a session.
class AppendStream {
 public:
  virtual ~AppendStream() = default;

  virtual const AppendOpened& opened() const = 0;

  struct Segment {
    int64_t offset = 0;
    Payload payload;
    absl::optional<uint32_t> crc32c;
    // Text sessions: whose turn it is, and whether that ends with it. What a
    // model's chat template puts between turns has no offsets.
    std::string role;  // empty: that of the turn that is open, or nobody's
    bool end_of_turn = false;
  };
  struct Taken {
    Offer offer = Offer::kTaken;
    bool duplicate = false;  // wholly or in part
    bool verified = true;    // false: a duplicate too old to compare
  };
  // Adds a segment to the history, as Memory.Append documents: what the
  // session has already is trimmed. OUT_OF_RANGE SEGMENT_GAP,
  // FAILED_PRECONDITION SEGMENT_CONFLICT or WRONG_UNIT, INVALID_ARGUMENT for a
  // wrong size, checksum or token; ABORTED TAKEN_OVER once another stream is
  // the writer; NOT_FOUND once the session is deleted. An error leaves the
  // session as it was.
  virtual absl::StatusOr<Taken> Write(const Segment& segment) = 0;

  virtual AppendProgress progress() const = 0;

  // Whether Write has a chance: there is credit, and no generation writes.
  virtual bool writable() const = 0;

  // Not OK once the stream is over by another's doing; as Write says.
  virtual absl::Status status() const = 0;
};

class Generation {
 public:
  virtual ~Generation() = default;

  // The next event, if there is one; none after kFinished. When many wait
  // unpolled, a generation that ends with its stream pauses until they are
  // taken, and is cancelled if that takes kReaderPatience: CANCELLED
  // (SLOW_READER). One that goes on without a stream does not wait: a stream
  // that falls too far behind ends OUT_OF_RANGE (OFFSET_NOT_KEPT). One that
  // another stream took over ends ABORTED (TAKEN_OVER).
  virtual absl::optional<GenerateEvent> Poll() = 0;

  // Ends it soon; kFinished follows. What was sampled stays history.
  virtual void Cancel() = 0;

  // Nobody will poll any more, for `reason`: kCancelled or kDeadline. The
  // generation goes on or ends with that reason, as its on_disconnect says.
  // Destroying the stream disconnects it for kCancelled.
  virtual void Disconnect(FinishReason reason) = 0;
};

class Scoring {
 public:
  virtual ~Scoring() = default;

  // Offers text or tokens to be scored. INVALID_ARGUMENT for a wrong size
  // or token; FAILED_PRECONDITION for the wrong unit, or after FinishInput.
  virtual absl::StatusOr<Offer> Write(const Payload& payload) = 0;

  // No more input: kFinished follows when all of it is scored.
  virtual void FinishInput() = 0;

  // The next event, if there is one. When many wait unpolled, scoring pauses
  // until they are taken, and is cancelled if that takes kReaderPatience:
  // CANCELLED (SLOW_READER).
  virtual absl::optional<ScoreEvent> Poll() = 0;

  virtual void Cancel() = 0;
};

// Keeps a session in memory for as long as it lives.
class SessionHold {
 public:
  virtual ~SessionHold() = default;
  // How it came there.
  virtual const LoadReport& report() const = 0;
};

// The events of a session from when it began. Thread-safe; destroyed like the
// streams of streams.h.
class SessionWatch {
 public:
  virtual ~SessionWatch() = default;
  // The next event, if there is one; none after one of the last kinds.
  virtual absl::optional<SessionEvent> Poll() = 0;
  // Whether the last event was polled.
  virtual bool ended() const = 0;
};

// A session in one portable file (engine/state/FORMAT.md). Thread-safe.
class SessionExport {
 public:
  virtual ~SessionExport() = default;
  virtual int64_t total_bytes() const = 0;
  // At most `bytes` of it from `offset` on.
  virtual std::string_view Read(int64_t offset, int64_t bytes) const = 0;
};

// Such a file on its way in. Thread-compatible.
class SessionImport {
 public:
  virtual ~SessionImport() = default;
  // The next bytes. INVALID_ARGUMENT if it is no such file; RESOURCE_EXHAUSTED
  // (RAM_BUDGET) if it is larger than there is room for.
  virtual absl::Status Add(std::string_view bytes) = 0;
  // That was all. `done` is called once, maybe from a thread of the engine.
  // DATA_LOSS if it is damaged; FAILED_PRECONDITION (STATE_INCOMPATIBLE) if it
  // is of another model or format; else as CreateSession.
  virtual void Finish(
      std::function<void(absl::StatusOr<SessionInfo>)> done) = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_STREAMS_H_
