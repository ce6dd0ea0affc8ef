// SPDX-License-Identifier: Apache-2.0
//
// A Mneme server from C++.
//
//   auto client = Client::Connect("127.0.0.1:7600");
//   v1::GenerateRequest request;
//   request.set_session("sessions/alice");
//   request.set_text("Where did I leave my keys? ");
//   auto end = (*client)->Generate(request, [](const auto& answer) {
//     std::cout << answer.text() << std::flush;
//     return absl::OkStatus();
//   });
//
// Errors are the server's status codes; ReasonOf in status.h tells the
// machine-readable reason. UNAVAILABLE without a reason means that no server
// answered.
#ifndef MNEME_CLIENT_CLIENT_H_
#define MNEME_CLIENT_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpc/health/v1/health.pb.h"
#include "mneme/v1/memory.pb.h"
#include "mneme/v1/models.pb.h"
#include "mneme/v1/operations.pb.h"
#include "mneme/v1/sessions.pb.h"

namespace mneme::client {

struct ClientOptions {
  // Deadline of each call that is not a stream, all its attempts together.
  absl::Duration metadata_timeout = absl::Seconds(10);
  // How often such a call, or a score that only reads, is tried while the
  // server is UNAVAILABLE or asks to come back later; from 1.
  int max_attempts = 4;
  // Waits between attempts: from the first to the longest, doubling; what the
  // server asks for (RetryInfo) is waited for at least. A wait ends early when
  // a server that could not be reached can be.
  absl::Duration first_backoff = absl::Milliseconds(50);
  absl::Duration longest_backoff = absl::Seconds(1);
  // An append whose stream breaks goes on with another one. It gives up when
  // it waited this long in all since the server last acknowledged anything;
  // with 0 it does not go on at all.
  absl::Duration resume_for = absl::Minutes(2);
  absl::Duration longest_resume_backoff = absl::Seconds(10);
  // Waits between attempts, in place of a clock, if set; for tests.
  std::function<void(absl::Duration)> wait = {};
};

// Gives the next piece of a text: at least one byte, at most `max_bytes`, or
// nothing at its end. An error ends the call that reads it.
using TextSource =
    std::function<absl::StatusOr<std::string>(int64_t max_bytes)>;

// The same for token ids.
using TokenSource =
    std::function<absl::StatusOr<std::vector<int32_t>>(int64_t max_tokens)>;

struct AppendOptions {
  // If set, has to be the session's uid; protects from writing into another
  // session of the same name.
  std::string uid = {};
  // Payload of one message in bytes, from 1 (a token counts 4, and one always
  // fits). The server's limits cap it. Leaves no trace in the session.
  int64_t message_bytes = 64 * 1024;
  // Where the source's first byte or token belongs in the history. What the
  // session holds already is compared and not applied again. Default: the
  // session's end, behind whatever a generation that is under way writes.
  std::optional<int64_t> start_offset = {};
  // The source gives the whole history from offset 0. What the session holds
  // has to be its beginning, which is checked by digest, and is not sent.
  // REQUIRES: no start_offset.
  bool resume = false;
  // Cuts off another stream that writes to the session.
  bool takeover = false;
  // Called with each message of the server, on a thread of the call.
  std::function<void(const v1::AppendResponse&)> on_response = {};
  // Called on the caller's thread when a stream broke for that reason and
  // another one will be opened after the wait.
  std::function<void(const absl::Status& why, absl::Duration wait)> on_break =
      {};
};

struct AppendResult {
  // The history's part that the source became.
  int64_t start_offset = 0;
  int64_t end_offset = 0;
  // As the session was found by the first stream.
  v1::AppendResponse::Opened opened;
  // As it was left; the default if the server had nothing to acknowledge.
  v1::AppendResponse::Ack ack;
  // False if a duplicate was too old for the server to compare.
  bool verified = true;
  // Whether the session held any of it before the append.
  bool duplicate = false;
  // Streams that ended before the append did.
  int breaks = 0;
};

struct ScoreOptions {
  // Payload of one message in bytes, from 1 (a token counts 4, and one always
  // fits). Leaves no trace in the result.
  int64_t message_bytes = 64 * 1024;
  // Called with each message of the server, on a thread of the call.
  std::function<void(const v1::ScoreResponse&)> on_response = {};
};

struct ScoreResult {
  v1::ScoreTotals totals;
  v1::ScoreResponse::Finished finished;
};

// A connection to one server. Thread-safe; every call blocks its thread.
class Client {
 public:
  // `address` is host:port or unix:path. Does not wait for the connection:
  // the first call finds out whether a server is there.
  // INVALID_ARGUMENT: the address is empty.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(
      const std::string& address, const ClientOptions& options = {});

  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Calls that are not streams are tried again as ClientOptions says. Those
  // that change something get a request_id if they bring none, so that a
  // lost answer does no harm.
  absl::StatusOr<v1::Session> CreateSession(
      const v1::CreateSessionRequest& request);
  absl::StatusOr<v1::Session> GetSession(const v1::GetSessionRequest& request);
  // One page.
  absl::StatusOr<v1::ListSessionsResponse> ListSessions(
      const v1::ListSessionsRequest& request);
  absl::StatusOr<v1::Session> UpdateSession(
      const v1::UpdateSessionRequest& request);
  absl::Status DeleteSession(const v1::DeleteSessionRequest& request);
  absl::StatusOr<v1::Session> ResetSession(
      const v1::ResetSessionRequest& request);
  absl::StatusOr<v1::Session> ForkSession(
      const v1::ForkSessionRequest& request);
  absl::StatusOr<v1::Session> RollbackSession(
      const v1::RollbackSessionRequest& request);
  absl::StatusOr<v1::VerifySessionResponse> VerifySession(
      const v1::VerifySessionRequest& request);

  absl::StatusOr<v1::Snapshot> CreateSnapshot(
      const v1::CreateSnapshotRequest& request);
  // One page.
  absl::StatusOr<v1::ListSnapshotsResponse> ListSnapshots(
      const v1::ListSnapshotsRequest& request);
  absl::Status DeleteSnapshot(const v1::DeleteSnapshotRequest& request);

  // Gives a session's file piece by piece. An error of `on_chunk` ends it.
  // Returns the size of the file, all of which was given.
  absl::StatusOr<int64_t> ExportSession(
      const v1::ExportSessionRequest& request,
      const std::function<absl::Status(const std::string& chunk)>& on_chunk);
  // Makes a session of what `source` gives, which is the bytes of such a file.
  absl::StatusOr<v1::Session> ImportSession(
      const v1::ImportSessionRequest::Open& open, const TextSource& source);
  // Tells what happens to a session until it is gone. An error of `on_event`
  // ends it.
  absl::Status WatchSession(
      const v1::WatchSessionRequest& request,
      const std::function<absl::Status(const v1::SessionEvent&)>& on_event);

  absl::StatusOr<v1::CommitSegmentResponse> CommitSegment(
      const v1::CommitSegmentRequest& request);

  absl::StatusOr<v1::Model> GetModel(const v1::GetModelRequest& request);
  // One page.
  absl::StatusOr<v1::ListModelsResponse> ListModels(
      const v1::ListModelsRequest& request);
  // Begins to load a model; GetOperation tells when it is there.
  absl::StatusOr<v1::Operation> LoadModel(const v1::LoadModelRequest& request);
  absl::StatusOr<v1::Model> UnloadModel(const v1::UnloadModelRequest& request);
  // Takes the request's wait longer than other calls.
  absl::StatusOr<v1::Operation> GetOperation(
      const v1::GetOperationRequest& request);

  absl::StatusOr<v1::CountTokensResponse> CountTokens(
      const v1::CountTokensRequest& request);
  absl::StatusOr<v1::TokenizeResponse> Tokenize(
      const v1::TokenizeRequest& request);
  absl::StatusOr<v1::DetokenizeResponse> Detokenize(
      const v1::DetokenizeRequest& request);

  // Whether the server, or one service of it (`mneme.v1.Memory`), takes
  // requests. NOT_FOUND: no such service.
  absl::StatusOr<grpc::health::v1::HealthCheckResponse> CheckHealth(
      const std::string& service);

  // Adds everything `source` gives to `session` (`sessions/{session}`).
  // Returns when all of it is absorbed and, where the session's durability is
  // FSYNC, durable. Keeps what is not acknowledged, which is at most the
  // credit that the server gives and one message.
  //
  // A broken stream is no error: another one is opened, checked to be of the
  // same session (uid, offset, digest where both sides know it), and goes on
  // with what was not acknowledged, so that nothing is lost or applied twice.
  // If the server still has the broken stream as the session's writer, the
  // new one takes over.
  //
  // On error what was acknowledged stays in the session; the call can be
  // repeated with `start_offset`. Also NOT_FOUND: the session went away on the
  // way, as it does with a restart where the durability is NONE. DATA_LOSS: it
  // does not hold what was acknowledged. ABORTED: somebody else wrote.
  // FAILED_PRECONDITION: a text for a token session, or the reverse; with
  // `resume`, a history that is not the source's beginning. UNAVAILABLE: see
  // ClientOptions::resume_for. When `source` fails, what it gave before is
  // finished first and its error returned.
  absl::StatusOr<AppendResult> AppendText(const std::string& session,
                                          const TextSource& source,
                                          const AppendOptions& options = {});
  absl::StatusOr<AppendResult> AppendTokens(const std::string& session,
                                            const TokenSource& source,
                                            const AppendOptions& options = {});

  // Calls `on_response` on this thread with each message, the last included.
  // An error from it cancels the generation and is returned.
  absl::StatusOr<v1::GenerateResponse::Finished> Generate(
      const v1::GenerateRequest& request,
      const std::function<absl::Status(const v1::GenerateResponse&)>&
          on_response);

  // Scores everything `source` gives, as `open` says. Without `commit` the
  // call is tried again, as ClientOptions says, while the server has answered
  // nothing and less than 1 MiB was sent.
  absl::StatusOr<ScoreResult> ScoreText(const v1::ScoreRequest::Open& open,
                                        const TextSource& source,
                                        const ScoreOptions& options = {});
  absl::StatusOr<ScoreResult> ScoreTokens(const v1::ScoreRequest::Open& open,
                                          const TokenSource& source,
                                          const ScoreOptions& options = {});

  // Ends the calls that run with CANCELLED. A call that waits for its source
  // ends when the source returns.
  void CancelRunning();

  // Ends the calls that run, and every later one, with CANCELLED. A call that
  // waits for its source ends when the source returns.
  void CancelAll();

 private:
  struct Stubs;

  Client(std::unique_ptr<Stubs> stubs, const ClientOptions& options);

  const ClientOptions options_;
  const std::unique_ptr<Stubs> stubs_;
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_CLIENT_H_
