// SPDX-License-Identifier: Apache-2.0
//
// The plain structs that pass between the engine and whoever drives it.
#ifndef MNEME_ENGINE_RUNTIME_TYPES_H_
#define MNEME_ENGINE_RUNTIME_TYPES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace mneme {

// Payload bytes that may wait to be absorbed; a token counts 4. One segment
// may be longer than that, but then has to wait until nothing else does.
inline constexpr int64_t kMaxInflightBytes = 64 << 10;
inline constexpr int64_t kMaxSegmentBytes = 1 << 20;
// Tokens that a run of text became and that wait for their turn.
inline constexpr int64_t kMaxWaitingTokenBytes = 128 << 10;
// What an open stream may add: what waits, and one segment, which is being
// read, waits for room or is what waits.
inline constexpr int64_t kStreamBytes =
    kMaxInflightBytes + kMaxSegmentBytes + kMaxWaitingTokenBytes;

// What a session's offsets count.
enum class SessionUnit { kText, kTokens };  // bytes, tokens

// What a session is doing.
enum class SessionActivity {
  kIdle,
  kAppending,
  kGenerating,
  kScoring,
  kCommittingSegment
};

class SessionHold;

// Where a session's state is, or came from.
enum class StateTier {
  kHot,       // in memory
  kCold,      // in the store only
  kReplayed,  // in reports: from the store, and part of it computed again
};

// How a session's state came to be in memory for those who use it now.
struct LoadReport {
  StateTier tier = StateTier::kHot;
  absl::Duration load_time;     // waited for it; replaying included
  int64_t replayed_tokens = 0;  // computed again from the journal
};

// What an early commit of an open memory segment found.
struct SegmentCommit {
  int64_t position = 0;        // tokens of the history
  int64_t segment_tokens = 0;  // of them in the segment; 0: it was empty
  LoadReport load;
};

// A request that is carried out once, however often it comes: what is to be
// remembered of it together with what it does. Its reply can be made as soon as
// its outcome is known; `reply` is called at most once, from any thread.
template <typename Outcome>
struct RequestTag {
  std::string id;  // empty: it is not remembered
  std::string digest;
  std::function<std::string(const Outcome&)> reply;
};

struct SegmentCommitOptions {
  std::string session;
  std::string uid;  // if set, has to match
  RequestTag<SegmentCommit> request;
};

// What is remembered of such a request.
struct AnsweredRequest {
  std::string id;
  std::string digest;
  std::string reply;
  absl::Time time;
};

// A piece of history: bytes in a text session, token ids in a token session.
using Payload = std::variant<std::string, std::vector<int32_t>>;

enum class ModelState { kLoading, kLoaded };

// A part of the state of a session; see StatePart of the contract.
struct StatePartInfo {
  enum class Growth { kFixed, kSegment, kWindow, kFirst };
  std::string name;
  Growth growth = Growth::kFixed;
  int64_t rows = 0;
  int64_t row_floats = 0;
  int64_t layers = 0;
};

// Of a model that is being loaded, name and state alone mean something.
struct ModelInfo {
  std::string name;
  ModelState state = ModelState::kLoaded;
  std::string fingerprint;          // 64 hex digits
  std::string kind;                 // config.json's model_type
  std::vector<std::string> mixers;  // kinds in use, each once
  std::string chat_template;        // as ChatTemplate::kind says; or empty
  std::string tokenizer;            // as Tokenizer::kind says, or "none"
  std::string arithmetic_level;     // see Backend::arithmetic_level
  int64_t parameters = 0;
  int64_t layers = 0;
  int64_t model_dim = 0;
  int64_t vocab_size = 0;
  int64_t weight_bytes = 0;   // of memory held
  int64_t state_bytes = 0;    // of one session's state, whatever it was fed
  int64_t scratch_bytes = 0;  // of the workspace of a pass
  // Most that states take on their way to the store and from it.
  int64_t transfer_bytes = 0;
  int64_t stream_bytes = 0;  // most that an open stream adds
  int64_t index_bytes = 0;   // of a session beside its state
  int64_t block_tokens = 0;
  int64_t segment_tokens = 0;  // the mixers' own granularity; 0: none
  int64_t token_limit = 0;     // of a session; 0: none
  std::vector<StatePartInfo> state_parts;
  absl::optional<int32_t> bos_token;
  std::vector<int32_t> eos_tokens;
  absl::Time load_time;
  int64_t sessions = 0;
};

// What an acknowledgement promises.
enum class Durability { kNone, kSynced };

enum class SessionCondition { kActive, kQuarantined };

struct SessionInfo {
  std::string id;
  std::string uid;
  std::string model;
  std::string model_fingerprint;
  int64_t epoch = 0;
  SessionUnit unit = SessionUnit::kText;
  SessionActivity activity = SessionActivity::kIdle;
  int64_t position = 0;         // tokens of the history that were absorbed
  int64_t absorbed_offset = 0;  // in the state or its tail
  int64_t durable_offset = 0;   // survives a crash; 0 with kNone
  int64_t next_offset = 0;      // where the next segment starts
  int64_t pending_tokens = 0;   // of position, those that wait in the tail
  int64_t pending_bytes = 0;    // text that is not tokens yet
  int64_t state_bytes = 0;
  std::string state_digest;    // empty unless asked for
  std::string history_digest;  // likewise
  std::map<std::string, std::string> labels;
  absl::Time create_time;
  absl::Time update_time;
  absl::Time expire_time;  // InfiniteFuture: never
  int64_t revision = 0;    // changes with labels, limits and epoch
  StateTier tier = StateTier::kHot;
  Durability durability = Durability::kNone;
  SessionCondition condition = SessionCondition::kActive;
  std::string quarantine;                // what is wrong with a quarantined one
  int64_t snapshot_interval_tokens = 0;  // 0: the engine's
  bool pinned = false;                   // stays in memory
};

struct CreateSessionOptions {
  std::string id;  // empty: the engine chooses one
  std::string model;
  // Default: text if the model has a tokenizer, else tokens.
  absl::optional<SessionUnit> unit;
  std::map<std::string, std::string> labels;
  absl::Duration ttl;  // idle time after which it expires; zero: never
  int64_t snapshot_interval_tokens = 0;  // 0: the engine's
  bool pinned = false;
  // Of another session, to begin from; the rest has to suit it. Empty: none.
  std::string source_session;
  std::string source_snapshot;
  RequestTag<SessionInfo> request;
};

struct ForkOptions {
  std::string source;
  std::string snapshot;  // of the source; empty: its present state
  std::string id;        // of the new session; empty: the engine chooses one
  std::map<std::string, std::string> labels;
  absl::Duration ttl;
  RequestTag<SessionInfo> request;
};

struct RollbackOptions {
  std::string session;
  std::string snapshot;  // empty: to `offset`
  int64_t offset = 0;
  bool takeover = false;
  RequestTag<SessionInfo> request;
};

struct ResetOptions {
  std::string session;
  bool takeover = false;
  RequestTag<SessionInfo> request;
};

struct DeleteOptions {
  std::string session;
  std::string uid;                   // if set, has to match
  absl::optional<int64_t> revision;  // likewise
  RequestTag<SessionInfo> request;
};

// A kept state of a session.
struct SnapshotInfo {
  std::string session;
  std::string name;  // of an automatic one the engine's
  int64_t offset = 0;
  int64_t position = 0;
  std::string state_digest;
  std::string history_digest;
  int64_t stored_bytes = 0;
  bool automatic = false;
  absl::Time create_time;
  std::string model_fingerprint;
};

struct SnapshotOptions {
  std::string session;
  std::string name;  // empty: the engine chooses one
  RequestTag<SnapshotInfo> request;
};

struct ImportOptions {
  std::string id;     // empty: the engine chooses one
  std::string model;  // empty: the loaded one that the file names
  std::map<std::string, std::string> labels;
  absl::Duration ttl;
  RequestTag<SessionInfo> request;
};

// What happens to a session.
struct SessionEvent {
  enum class Kind {
    kNow,  // how it is when a watch begins, or could not be told of all
    kUpdated,
    kLoaded,
    kEvicted,
    kFenced,
    kReset,
    kRolledBack,
    kQuarantined,
    kExpired,  // these two end a watch
    kDeleted,
  };
  Kind kind = Kind::kNow;
  absl::Time time;
  SessionInfo session;
  std::string detail;
};

// What UpdateSession changes: what is set.
struct UpdateSessionOptions {
  std::string session;
  absl::optional<int64_t> revision;  // if set, has to match
  absl::optional<std::map<std::string, std::string>> labels;
  absl::optional<absl::Duration> ttl;
  absl::optional<int64_t> snapshot_interval_tokens;
  absl::optional<bool> pinned;
  RequestTag<SessionInfo> request;
};

// Sessions that have all that is set.
struct SessionFilter {
  bool nothing = false;  // matches no session
  absl::optional<std::string> model;
  absl::optional<SessionActivity> activity;
  absl::optional<StateTier> tier;
  std::map<std::string, std::string> labels;
};

struct AppendOptions {
  std::string session;
  std::string uid;             // if set, has to match
  int64_t expected_epoch = 0;  // if not 0, has to match
  bool takeover = false;
  std::shared_ptr<SessionHold> hold;  // as Load gave it
};

struct AppendOpened {
  std::string uid;
  int64_t epoch = 0;
  SessionUnit unit = SessionUnit::kText;
  Durability durability = Durability::kNone;
  int64_t absorbed_offset = 0;
  int64_t durable_offset = 0;
  int64_t next_offset = 0;
  int64_t position = 0;
  int64_t max_inflight_bytes = 0;
  int64_t max_segment_bytes = 0;
  // At durable_offset (with kNone absorbed_offset); empty: not at hand.
  std::string history_digest;
  LoadReport load;
};

struct AppendProgress {
  int64_t absorbed_offset = 0;
  int64_t durable_offset = 0;
  int64_t position = 0;  // at absorbed_offset
  int64_t tokens = 0;    // absorbed since the stream opened
  bool idle = false;     // everything that was taken is absorbed
};

// As SamplingParams of the API says, field by field.
// Of one stop string.
inline constexpr int64_t kMaxStopBytes = 256;
// Likely tokens that are told beside each.
inline constexpr int64_t kMaxTopLogprobs = 20;

struct SamplingOptions {
  float temperature = 1.0f;  // 0: the most likely token
  int32_t top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float typical_p = 1.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  int64_t penalty_window_tokens = 0;  // 0: 64
  absl::optional<uint64_t> seed;
  std::map<int32_t, float> logit_bias;
};

// What becomes of a generation whose stream ends before it does.
enum class OnDisconnect { kCancel, kFinish };

struct GenerateOptions {
  std::string session;
  std::string uid;  // if set, has to match
  absl::optional<Payload> prompt;
  int64_t max_tokens = 256;
  SamplingOptions sampling;
  std::vector<std::string> stop;  // text sessions
  std::vector<int32_t> stop_tokens;
  bool ignore_eos = false;
  bool logprobs = false;
  int64_t top_logprobs = 0;
  bool commit = true;  // false: on a copy of the state, which is thrown away
  // Text sessions: the prompt is a whole turn of this one's; empty: it is not.
  std::string role;

  // If set, and the session's last generation under a request id is of this
  // one: attaches to it, running or ended, and begins nothing. Wants commit.
  std::string request_id;
  // Equal for requests that may share an id: says all of the request but
  // output_offset.
  std::string request_digest;
  int64_t output_offset = 0;  // where to go on; 0: from the answer's beginning
  OnDisconnect on_disconnect = OnDisconnect::kCancel;
  std::shared_ptr<SessionHold> hold;  // as Load gave it
};

// kDeadline: its stream's deadline passed.
enum class FinishReason { kStop, kLength, kCancelled, kDeadline };

struct GenerateStats {
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  absl::Duration queue_time;           // until the first pass
  absl::Duration prefill_time;         // from there to the first token
  absl::Duration decode_time;          // first token to last
  absl::Duration time_to_first_token;  // from the request; zero if none
  uint64_t seed = 0;                   // used; 0 when greedy
  LoadReport load;
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0.0f;           // natural, before any sampling parameter
  std::string text;               // the token's own bytes; text sessions
  std::vector<TokenLogprob> top;  // the most likely instead, best first
};

// What a generation says, in this order: one kStarted, any number of kOutput,
// one kFinished.
struct GenerateEvent {
  enum class Kind { kStarted, kOutput, kFinished };
  Kind kind = Kind::kStarted;

  // kStarted
  int64_t ask_position = 0;  // of the first generated token
  int64_t offset = 0;        // likewise
  bool attached = false;     // to a generation that another request began

  // kOutput. The next bytes of the answer, never ending inside a UTF-8
  // character, and the token that they complete, if they complete one.
  std::string text;  // text sessions
  absl::optional<int32_t> token;
  absl::optional<TokenLogprob> logprob;  // the token's; if asked for

  // kFinished. Not OK: the generation failed, or this stream lost it; the rest
  // holds what is true all the same.
  absl::Status status;
  FinishReason reason = FinishReason::kLength;
  int64_t next_offset = 0;
  int64_t durable_offset = 0;
  int64_t position = 0;
  std::string stop;  // the stop string that was met
  absl::optional<int32_t> stop_token;
  GenerateStats stats;
};

struct ScoreTotals {
  int64_t tokens_scored = 0;
  int64_t tokens_unscored = 0;  // those without a token before them
  int64_t bytes = 0;            // of text taken; text sessions
  double logprob_sum = 0;       // natural, over the scored
};

// What a scoring says: any number of kTokens, one kFinished.
struct ScoreEvent {
  enum class Kind { kTokens, kFinished };
  struct Token {
    int32_t token = 0;
    float logprob = 0.0f;  // natural
    int64_t offset = 0;    // of its start
  };
  Kind kind = Kind::kTokens;
  std::vector<Token> tokens;
  ScoreTotals totals;  // so far; all of it in kFinished

  // kFinished
  absl::Status status;
  int64_t next_offset = 0;  // of the session; without commit, where it stood
  int64_t position = 0;     // likewise
  absl::Duration queue_time;
  absl::Duration compute_time;
  LoadReport load;
};

struct ScoreOptions {
  std::string session;
  std::string uid;  // if set, has to match
  bool commit = false;
  RequestTag<ScoreEvent> request;  // with commit: of the end, if that is good
  std::shared_ptr<SessionHold> hold;  // as Load gave it
};

// The engine as gauges see it.
struct EngineStats {
  struct ModelStats {
    std::string model;
    int64_t sessions = 0;
    int64_t hot_sessions = 0;
    int64_t state_bytes = 0;  // of those
  };
  std::vector<ModelStats> models;
  int64_t sessions = 0;  // of all models, and of those that are not loaded
  int64_t quarantined_sessions = 0;
  int64_t index_bytes = 0;  // of session memory, those that are not of a state
  int64_t store_bytes = 0;
  int64_t store_limit_bytes = 0;   // 0: none
  int64_t store_memory_bytes = 0;  // most that it takes beside session memory
  int64_t durable_lag_bytes = 0;   // that wait for the store
  bool store_writable = true;
  int64_t session_memory_used_bytes = 0;
  int64_t session_memory_limit_bytes = 0;
  int threads = 0;               // that compute
  std::string arithmetic_level;  // see Backend::arithmetic_level
  int64_t waiting_sessions = 0;  // sessions with work that no pass has taken
  int64_t generations = 0;       // running
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_TYPES_H_
