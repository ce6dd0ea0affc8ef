// SPDX-License-Identifier: Apache-2.0
//
// The commands of `mneme`: what each was asked for, and the doing of it. All
// print their result on standard output and return what went wrong.
#ifndef MNEME_CLIENT_COMMANDS_H_
#define MNEME_CLIENT_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cli.h"
#include "client/load.h"

namespace mneme::client {

// Sessions and models are named by id or by full resource name.

struct CreateSessionArgs {
  std::string session;
  std::string model;                // Empty: the server's choice.
  std::string unit;                 // "text", "tokens"; empty: the model's.
  std::vector<std::string> labels;  // "key=value" each.
  int64_t ttl_seconds = 0;          // 0: lives until deleted.
  bool pinned = false;              // Stays in memory.
  std::string snapshot;             // Full name; empty: begins empty.
};

struct ForkSessionArgs {
  std::string source;
  std::string session;              // Empty: the server's choice.
  std::string snapshot;             // Of the source; empty: as it is now.
  std::vector<std::string> labels;  // "key=value" each.
  int64_t ttl_seconds = 0;          // 0: lives until deleted.
};

struct RollbackSessionArgs {
  std::string session;
  std::optional<int64_t> offset;  // Or:
  std::string snapshot;
  bool takeover = false;  // Cuts off streams that use it.
};

struct SnapshotArgs {
  std::string session;
  std::string snapshot;  // To create, empty: the server's choice.
};

struct ExportSessionArgs {
  std::string session;
  std::string snapshot;  // Empty: as it is now.
  std::string file;      // "-": standard output.
};

struct ImportSessionArgs {
  std::string file;     // "-": standard input.
  std::string session;  // Empty: the server's choice.
  std::string model;    // Empty: the one that the file names.
};

struct VerifySessionsArgs {
  std::vector<std::string> sessions;  // Empty: all.
};

struct ListSessionsArgs {
  std::string filter;
};

struct SessionArgs {
  std::string session;
};

struct UpdateSessionArgs {
  std::string session;
  std::vector<std::string> labels;         // "key=value" each; set or changed.
  std::vector<std::string> remove_labels;  // Keys.
  std::optional<bool> pinned;
  std::optional<int64_t> ttl_seconds;  // 0: lives until deleted.
};

struct ResetSessionArgs {
  std::string session;
  bool takeover = false;  // Cuts off streams that use it.
};

absl::Status RunSessionsCreate(const Cli& cli, const CreateSessionArgs& args);
absl::Status RunSessionsList(const Cli& cli, const ListSessionsArgs& args);
absl::Status RunSessionsShow(const Cli& cli, const SessionArgs& args);
absl::Status RunSessionsUpdate(const Cli& cli, const UpdateSessionArgs& args);
absl::Status RunSessionsReset(const Cli& cli, const ResetSessionArgs& args);
absl::Status RunSessionsCommitSegment(const Cli& cli, const SessionArgs& args);
absl::Status RunSessionsDelete(const Cli& cli, const SessionArgs& args);
absl::Status RunSessionsFork(const Cli& cli, const ForkSessionArgs& args);
absl::Status RunSessionsRollback(const Cli& cli,
                                 const RollbackSessionArgs& args);
absl::Status RunSnapshotsCreate(const Cli& cli, const SnapshotArgs& args);
absl::Status RunSnapshotsList(const Cli& cli, const SnapshotArgs& args);
absl::Status RunSnapshotsDelete(const Cli& cli, const SnapshotArgs& args);
absl::Status RunSessionsExport(const Cli& cli, const ExportSessionArgs& args);
absl::Status RunSessionsImport(const Cli& cli, const ImportSessionArgs& args);
absl::Status RunSessionsWatch(const Cli& cli, const SessionArgs& args);
// DATA_LOSS if one is damaged.
absl::Status RunSessionsVerify(const Cli& cli, const VerifySessionsArgs& args);

struct ModelArgs {
  std::string model;
};

struct FootprintArgs {
  int64_t tokens = 1'000'000;
};

struct LoadModelArgs {
  std::string model;
  bool wait = true;  // until it is loaded
};

struct UnloadModelArgs {
  std::string model;
  bool force = false;  // deletes its sessions
};

absl::Status RunModelsLoad(const Cli& cli, const LoadModelArgs& args);
absl::Status RunModelsUnload(const Cli& cli, const UnloadModelArgs& args);
absl::Status RunModelsList(const Cli& cli);
absl::Status RunModelsFootprint(const Cli& cli, const FootprintArgs& args);
absl::Status RunModelsShow(const Cli& cli, const ModelArgs& args);

struct AppendArgs {
  std::string session;
  std::vector<std::string> files = {"-"};  // One behind the other.
  int64_t message_bytes = 64 * 1024;
  std::optional<int64_t> start_offset;
  bool tokens = false;    // The file holds token ids, not text.
  bool takeover = false;  // Cuts off another writer.
  bool resume = false;    // The session holds a beginning of the files.
};

struct GenerateArgs {
  std::string session;
  std::string prompt;
  bool tokens = false;  // Prompt and answer are token ids, not text.
  int32_t max_tokens = 0;
  std::optional<float> temperature;
  int32_t top_k = 0;
  std::optional<float> top_p;
  float min_p = 0;
  std::optional<float> typical_p;
  std::optional<float> repetition_penalty;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  int32_t penalty_window_tokens = 0;
  std::vector<std::string> logit_bias;  // "TOKEN=BIAS" each.
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_tokens;
  bool ignore_eos = false;
  bool logprobs = false;
  int32_t top_logprobs = 0;  // Above 0 implies logprobs.
  bool no_commit = false;    // Leaves no trace in the session.
  std::string request_id;
  int64_t output_offset = 0;
  bool finish = false;  // The answer goes on without this client.
};

struct ScoreArgs {
  std::string session;
  std::string file = "-";
  int64_t message_bytes = 64 * 1024;
  bool tokens = false;    // The file holds token ids, not text.
  bool detailed = false;  // Prints each token.
  bool commit = false;    // Makes the text part of the history.
};

struct ChatArgs {
  std::string session;
  std::string model;    // Has to be the session's; empty: any.
  bool create = false;  // Makes the session if there is none.
  int32_t max_tokens = 0;
  std::optional<float> temperature;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  bool turns = false;  // Lines are the user's turns, in the chat template.
};

// What a tokenizer works on.
struct TextArgs {
  std::string model;
  std::string file = "-";
  std::optional<std::string> text;  // Instead of the file.
  bool add_bos = false;
};

struct HealthArgs {
  std::string service;  // Empty: the whole server.
};

struct BenchArgs {
  LoadOptions load;
  std::string arrivals = "closed";
  double seconds = 0;  // 0 with no number of requests: 10.
};

absl::Status RunBench(const Cli& cli, const BenchArgs& args);
absl::Status RunChat(const Cli& cli, const ChatArgs& args);
absl::Status RunTokenize(const Cli& cli, const TextArgs& args);
absl::Status RunDetokenize(const Cli& cli, const TextArgs& args);
absl::Status RunCountTokens(const Cli& cli, const TextArgs& args);
absl::Status RunHealth(const Cli& cli, const HealthArgs& args);
absl::Status RunAppend(const Cli& cli, const AppendArgs& args);
absl::Status RunGenerate(const Cli& cli, const GenerateArgs& args);
absl::Status RunScore(const Cli& cli, const ScoreArgs& args);

}  // namespace mneme::client

#endif  // MNEME_CLIENT_COMMANDS_H_
