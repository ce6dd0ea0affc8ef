// SPDX-License-Identifier: Apache-2.0
//
// A server with one session that does what the protos promise, and misbehaves
// where a test asks for it. It computes nothing: its state is the history.
#ifndef MNEME_TESTS_CLIENT_FAKE_SERVER_H_
#define MNEME_TESTS_CLIENT_FAKE_SERVER_H_

#include <grpcpp/server.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "mneme/v1/memory.grpc.pb.h"
#include "mneme/v1/models.grpc.pb.h"
#include "mneme/v1/sessions.grpc.pb.h"

namespace mneme::client {

struct FakeOptions {
  std::string address = "127.0.0.1:0";
  v1::Session::Unit unit = v1::Session::TEXT;
  v1::Session::Durability durability = v1::Session::NONE;
  int64_t max_inflight_bytes = 1024;
  int64_t max_segment_bytes = 1024;
  // Units that the session holds from the start.
  int64_t next_offset = 0;
  // Acknowledges only when as much is unacknowledged, or at the end.
  int64_t ack_every_units = 1;
  // What a broken stream left is absorbed right after the next one's Opened,
  // with an ack at once. Text sessions.
  bool absorbs_late = false;
  // Never moves durable_offset, not even at the end.
  bool never_durable = false;
  // Sent after Opened, when set.
  v1::AppendResponse extra = {};
  // What happens to the streams of Append, the first one first; streams
  // beyond live.
  struct Break {
    // Ends the stream with `status` instead of the answer to Open.
    bool instead_of_opened = false;
    // Else when as many segments were taken, of which the last stays
    // unacknowledged.
    int segments = 1;
    grpc::Status status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
    // Units that the history has lost, or gained from elsewhere, afterwards.
    int lose = 0;
    std::string gain = {};
  };
  std::vector<Break> breaks = {};
  // Becomes history right after the first Opened, as a generation would.
  std::string intrusion = {};
  // What CreateSession, UpdateSession, DeleteSession and Score answer at
  // first, one after the other.
  std::vector<grpc::Status> failures = {};
  // Answers a generation with this many pieces, or without end if negative.
  int pieces = 3;
  // Time before an answer's first piece.
  absl::Duration think = absl::ZeroDuration();
  // Answers generations with RESOURCE_EXHAUSTED instead.
  bool refuse_generate = false;
};

class FakeServer final : public v1::Memory::Service,
                         public v1::Sessions::Service,
                         public v1::Models::Service {
 public:
  explicit FakeServer(const FakeOptions& options = {});
  ~FakeServer() override;

  const std::string& address() const { return address_; }

  // What Append took, in order.
  std::vector<v1::AppendRequest::Segment> segments()
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The history of a text session, from its first segment on.
  std::string history() ABSL_LOCKS_EXCLUDED(mutex_);
  // The first message of each append stream.
  std::vector<v1::AppendRequest::Open> opens() ABSL_LOCKS_EXCLUDED(mutex_);
  // The prompts of generations.
  std::vector<std::string> prompts() ABSL_LOCKS_EXCLUDED(mutex_);
  // The request ids that came with calls that change something.
  std::vector<std::string> request_ids() ABSL_LOCKS_EXCLUDED(mutex_);
  // The last offset that was acknowledged, known before the client hears it.
  int64_t acknowledged() ABSL_LOCKS_EXCLUDED(mutex_);
  // Set once an endless generation was cancelled.
  absl::Notification& cancelled() { return cancelled_; }
  // Lets the call that hangs end.
  absl::Notification& release() { return release_; }

  grpc::Status Append(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::AppendResponse, v1::AppendRequest>* stream)
      override;
  grpc::Status Generate(
      grpc::ServerContext* context, const v1::GenerateRequest* request,
      grpc::ServerWriter<v1::GenerateResponse>* writer) override;
  // Gives each byte and each token the natural logarithm -1.
  grpc::Status Score(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::ScoreResponse, v1::ScoreRequest>* stream)
      override;
  // Session "sessions/slow" hangs until released, "sessions/there" answers,
  // others are not found.
  grpc::Status GetSession(grpc::ServerContext* context,
                          const v1::GetSessionRequest* request,
                          v1::Session* response) override;
  grpc::Status CreateSession(grpc::ServerContext* context,
                             const v1::CreateSessionRequest* request,
                             v1::Session* response) override;
  grpc::Status DeleteSession(grpc::ServerContext* context,
                             const v1::DeleteSessionRequest* request,
                             google::protobuf::Empty* response) override;
  // Only "models/only".
  grpc::Status GetModel(grpc::ServerContext* context,
                        const v1::GetModelRequest* request,
                        v1::Model* response) override;
  // One token a byte.
  grpc::Status Tokenize(grpc::ServerContext* context,
                        const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override;

 private:
  // The next of options.failures, OK when there are no more.
  grpc::Status NextFailure() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::optional<FakeOptions::Break> NextBreak() ABSL_LOCKS_EXCLUDED(mutex_);

  grpc::Status Take(const v1::AppendRequest::Segment& segment)
      ABSL_LOCKS_EXCLUDED(mutex_);
  v1::AppendResponse MakeAck() ABSL_LOCKS_EXCLUDED(mutex_);

  const FakeOptions options_;
  absl::Notification cancelled_;
  absl::Notification release_;
  absl::Mutex mutex_;
  std::vector<v1::AppendRequest::Segment> segments_ ABSL_GUARDED_BY(mutex_);
  int64_t next_offset_ ABSL_GUARDED_BY(mutex_);
  int64_t acknowledged_ ABSL_GUARDED_BY(mutex_);
  std::string history_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::AppendRequest::Open> opens_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> prompts_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> request_ids_ ABSL_GUARDED_BY(mutex_);
  bool intruded_ ABSL_GUARDED_BY(mutex_) = false;
  size_t streams_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t failures_ ABSL_GUARDED_BY(mutex_) = 0;
  bool duplicate_ ABSL_GUARDED_BY(mutex_) = false;

  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

// An error as the real server makes them; `retry_seconds` if it is not 0.
grpc::Status MakeError(
    grpc::StatusCode code, const std::string& message, v1::ErrorReason reason,
    const std::vector<std::pair<std::string, std::string>>& metadata = {},
    int retry_seconds = 0);

}  // namespace mneme::client

#endif  // MNEME_TESTS_CLIENT_FAKE_SERVER_H_
