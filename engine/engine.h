// SPDX-License-Identifier: Apache-2.0
//
// The engine as a whole: models, sessions whose memory of their history has a
// fixed size, and the computing that turns one into the other. It knows
// nothing of gRPC. This is the one engine header that a server includes.
#ifndef MNEME_ENGINE_ENGINE_H_
#define MNEME_ENGINE_ENGINE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/clock.h"
#include "engine/runtime/observer.h"
#include "engine/runtime/streams.h"
#include "engine/runtime/types.h"
#include "engine/text/tokenizer.h"

namespace mneme {

struct EngineOptions {
  // Workers that compute; 0: one per core.
  int threads = 0;
  // Bytes that all session states together may take; 0: half of the smaller
  // of the machine's memory and the cgroup's limit.
  int64_t session_memory_bytes = 0;
  // Laid over the config.json of every model whose family has such keys: key
  // and value, as JSON has it.
  std::map<std::string, std::string> model_settings;
  // Where sessions outlive the process; made if it is not there. Empty: they
  // are kept in memory, which takes session_memory_bytes once more.
  std::string data_directory;
  // Most that the store may take; 0: no limit, in memory session_memory_bytes.
  int64_t store_bytes = 0;
  // Most that the journal and the snapshots of one session may take; 0: no
  // limit. Older automatic snapshots go first; then what would add to it gets
  // RESOURCE_EXHAUSTED (QUOTA), but for what an answer says.
  int64_t session_store_bytes = 0;
  // Tokens after which a session's state is written to the store anew, and how
  // many such states are kept; at least 1 each.
  int64_t snapshot_interval_tokens = 8192;
  int64_t snapshots_kept = 2;
  // Opens a store that is damaged: what cannot be proved whole is quarantined.
  bool salvage = false;
  // "cpu" or "reference".
  std::string backend = "cpu";
  const Clock* clock = Clock::Real();  // outlives the engine
  Observer* observer = nullptr;        // outlives the engine; may be null
};

// Thread-safe. No method blocks for longer than it takes to copy what it
// returns, except LoadModel, Drain, the destructor, and those that say so.
// What takes a `done` calls it once, at once or later from a thread of the
// engine; by then what it did is in the store. The same without blocks until
// then.
//
// A session belongs to the weights it was made with, not to their name: a
// model goes only when its sessions have gone. One that is found in the store
// waits for its model to be loaded: until then what needs its state gets
// UNAVAILABLE (MODEL_LOADING), or FAILED_PRECONDITION (STATE_INCOMPATIBLE) if
// the model that has the name is another.
//
// What writes gets UNAVAILABLE (STORE_UNAVAILABLE) while the store cannot: then
// nothing was changed, and streams that were writing have ended. A session
// whose stored form is damaged is quarantined: what needs its state gets
// DATA_LOSS (SESSION_QUARANTINED) until it is deleted, reset, or rolled back to
// a snapshot that is whole.
class Engine {
 public:
  template <typename T>
  using Done = std::function<void(absl::StatusOr<T>)>;

  // INVALID_ARGUMENT for an option out of range; FAILED_PRECONDITION if another
  // process uses the data directory; DATA_LOSS if the store is damaged.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const EngineOptions& options);

  // Drains at once and ends all streams. REQUIRES: every stream handed out
  // was destroyed.
  virtual ~Engine() = default;

  // Loads the Hugging Face directory `directory` and serves it as `name`.
  // Other models are served meanwhile; this one is listed as loading, and what
  // asks for it gets UNAVAILABLE (MODEL_LOADING).
  // INVALID_ARGUMENT naming the key or tensor, the found and the wanted;
  // NOT_FOUND for a missing file; ALREADY_EXISTS for a name in use;
  // RESOURCE_EXHAUSTED if memory is refused.
  virtual absl::Status LoadModel(const std::string& name,
                                 const std::string& directory) = 0;
  // Gives its weights back. NOT_FOUND; FAILED_PRECONDITION (MODEL_IN_USE) if
  // it has sessions, which `force` deletes; UNAVAILABLE (MODEL_LOADING).
  virtual absl::Status UnloadModel(const std::string& name, bool force) = 0;
  virtual std::vector<ModelInfo> ListModels() const = 0;  // by name
  virtual absl::StatusOr<ModelInfo> GetModel(const std::string& name) const = 0;

  // All of a text's tokens, as at the beginning of a session, but for the one
  // that begins a history. NOT_FOUND; UNIMPLEMENTED (NO_TOKENIZER);
  // INVALID_ARGUMENT for text that is longer than kMaxSegmentBytes, or is not
  // whole UTF-8 where the tokenizer wants that.
  virtual absl::StatusOr<std::vector<TextToken>> Tokenize(
      const std::string& model, std::string_view text) const = 0;
  // The text of tokens at the beginning of a session. Errors as Tokenize.
  virtual absl::StatusOr<std::string> Detokenize(
      const std::string& model, const std::vector<int32_t>& tokens) const = 0;

  // ALREADY_EXISTS; NOT_FOUND for the model, UNAVAILABLE (MODEL_LOADING) while
  // it is being loaded; INVALID_ARGUMENT for an id that
  // is not [A-Za-z0-9][A-Za-z0-9._-]{0,127}, a label or a unit that does not
  // fit; RESOURCE_EXHAUSTED (RAM_BUDGET); UNAVAILABLE (DRAINING).
  virtual void CreateSession(const CreateSessionOptions& options,
                             Done<SessionInfo> done) = 0;
  absl::StatusOr<SessionInfo> CreateSession(
      const CreateSessionOptions& options);
  // Another session with the source's history. NOT_FOUND for the source or its
  // snapshot; else as CreateSession. Waits for what the source is doing.
  virtual void ForkSession(const ForkOptions& options,
                           Done<SessionInfo> done) = 0;

  // Brings a session into memory, which may take reading and computing, and
  // puts others out that nobody uses. What needs a session's state does so
  // itself, but blocks meanwhile; not so while the session is held. NOT_FOUND;
  // ABORTED (EPOCH_FENCED) if `uid` is set and not the session's;
  // RESOURCE_EXHAUSTED (RAM_BUDGET) if all that is in memory is in use.
  virtual void Load(const std::string& id, const std::string& uid,
                    Done<std::shared_ptr<SessionHold>> done) = 0;

  // Without digests. NOT_FOUND.
  virtual absl::StatusOr<SessionInfo> GetSession(
      const std::string& id) const = 0;

  // With digests, which are computed when no pass is using the session:
  // `done` is called once, from a thread of the engine. While the session is
  // idle the digests are those of its whole history; while it is busy, the
  // state's is of what is computed at that moment, and the history's is empty
  // while input waits.
  virtual void DescribeSession(
      const std::string& id,
      std::function<void(absl::StatusOr<SessionInfo>)> done) = 0;

  // At most `limit` sessions that match, with ids above `after`, by id,
  // without digests.
  virtual std::vector<SessionInfo> ListSessions(
      const std::string& after, int64_t limit,
      const SessionFilter& filter) const = 0;

  // Changes labels and limits. NOT_FOUND; INVALID_ARGUMENT; ABORTED
  // (ETAG_MISMATCH).
  virtual void UpdateSession(const UpdateSessionOptions& options,
                             Done<SessionInfo> done) = 0;
  absl::StatusOr<SessionInfo> UpdateSession(
      const UpdateSessionOptions& options);

  // Empties a session and raises its epoch, when no pass is using it. Named
  // snapshots stay. NOT_FOUND; ABORTED (SESSION_BUSY) if it has a writer or
  // running tasks, which `takeover` ends.
  virtual void ResetSession(const ResetOptions& options,
                            Done<SessionInfo> done) = 0;
  // Takes it back and raises its epoch. NOT_FOUND for the session or the
  // snapshot; OUT_OF_RANGE (OFFSET_NOT_KEPT) naming the nearest offset; else as
  // ResetSession.
  virtual void RollbackSession(const RollbackOptions& options,
                               Done<SessionInfo> done) = 0;

  // Pins the state as it is when all input accepted so far is absorbed and no
  // task that was there runs any more. NOT_FOUND; ALREADY_EXISTS;
  // INVALID_ARGUMENT; RESOURCE_EXHAUSTED (QUOTA).
  virtual void CreateSnapshot(const SnapshotOptions& options,
                              Done<SnapshotInfo> done) = 0;
  // By offset, the oldest first; automatic ones too. NOT_FOUND.
  virtual absl::StatusOr<std::vector<SnapshotInfo>> ListSnapshots(
      const std::string& session) const = 0;
  // A named one's. NOT_FOUND.
  virtual void DeleteSnapshot(const SnapshotOptions& options,
                              Done<SnapshotInfo> done) = 0;

  // The session, or a snapshot of it, as a file. NOT_FOUND;
  // RESOURCE_EXHAUSTED (RAM_BUDGET). Waits for what the session is doing.
  virtual void ExportSession(const std::string& id, const std::string& snapshot,
                             Done<std::unique_ptr<SessionExport>> done) = 0;
  // Takes a file once there is memory for it: RESOURCE_EXHAUSTED (RAM_BUDGET);
  // INVALID_ARGUMENT for what can be said before the file comes; UNAVAILABLE
  // (DRAINING).
  virtual void ImportSession(const ImportOptions& options,
                             Done<std::unique_ptr<SessionImport>> done) = 0;
  absl::StatusOr<std::unique_ptr<SessionImport>> ImportSession(
      const ImportOptions& options);

  // `listener` outlives the watch. NOT_FOUND.
  virtual absl::StatusOr<std::unique_ptr<SessionWatch>> WatchSession(
      const std::string& id, StreamListener* listener) = 0;

  // Reads all that is stored of a session and checks it: OK, or what is wrong.
  virtual void VerifySession(const std::string& id,
                             std::function<void(absl::Status)> done) = 0;

  // Writes the session's open memory segment before it is full, when all input
  // accepted so far is absorbed: `done` is called once, maybe from a thread of
  // the engine. What is generated later depends on it. NOT_FOUND;
  // UNIMPLEMENTED (NOT_SUPPORTED) if the model's memory has no segments that
  // could be written early; else as Generate.
  virtual void CommitSegment(const SegmentCommitOptions& options,
                             Done<SegmentCommit> done) = 0;

  // Gone at once, with all its streams, its journal and its snapshots; the id
  // is free. Answers with the session as it was. NOT_FOUND; ABORTED
  // (EPOCH_FENCED) if the uid is set and not the session's.
  virtual void DeleteSession(const DeleteOptions& options,
                             Done<SessionInfo> done) = 0;
  absl::Status DeleteSession(const std::string& id, const std::string& uid);

  // Makes a stream the session's writer. NOT_FOUND; ABORTED (EPOCH_FENCED) if
  // the uid or the epoch is another; ABORTED (SESSION_BUSY) if another stream
  // is the writer and `takeover` is false; UNAVAILABLE (DRAINING).
  // `listener` outlives the stream.
  virtual absl::StatusOr<std::unique_ptr<AppendStream>> OpenAppend(
      const AppendOptions& options, StreamListener* listener) = 0;

  // Generates from the session's history when all input accepted so far is
  // absorbed, or attaches to the generation that the request id began.
  // NOT_FOUND; ABORTED (EPOCH_FENCED), (SESSION_BUSY) if a
  // generation or a committing scoring is under way; INVALID_ARGUMENT, also
  // (REQUEST_ID_REUSED); OUT_OF_RANGE (OFFSET_NOT_KEPT) for an output_offset
  // where no kept token begins; RESOURCE_EXHAUSTED (RAM_BUDGET),
  // (QUEUE_FULL); UNAVAILABLE (DRAINING). A session without history ends the
  // generation with FAILED_PRECONDITION (NO_HISTORY). `listener` outlives it.
  virtual absl::StatusOr<std::unique_ptr<Generation>> Generate(
      const GenerateOptions& options, StreamListener* listener) = 0;

  // Scores input after the session's history. Errors as Generate.
  virtual absl::StatusOr<std::unique_ptr<Scoring>> Score(
      const ScoreOptions& options, StreamListener* listener) = 0;

  virtual EngineStats stats() const = 0;

  // Changes what all session states and open streams together may take; a
  // smaller one puts sessions out of memory until it holds. INVALID_ARGUMENT if
  // not above 0; FAILED_PRECONDITION (BUDGET_IN_USE) if what is in use takes
  // more. Blocks.
  virtual absl::Status SetSessionMemory(int64_t bytes) = 0;

  // Requests that were remembered, the oldest first: those that the store had
  // when it was opened.
  virtual std::vector<AnsweredRequest> TakeAnsweredRequests() = 0;

  // Refuses new sessions and streams from now on, and waits until all
  // running ones have ended and no call waits for a session, or until
  // `deadline`: what then still runs is cancelled. Then writes the sessions in
  // memory to the store, as far as that goes in a few seconds beyond
  // `deadline`: the others are in their journals. Returns the number cancelled.
  virtual int64_t Drain(absl::Time deadline) = 0;

  // What still waits or runs ends with UNAVAILABLE (DRAINING), and so does all
  // that comes later and would have to wait; nothing is computed any more. What
  // was accepted stays. To be called after Drain, when only the end is left.
  virtual void Close() = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_ENGINE_H_
