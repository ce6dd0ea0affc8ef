// SPDX-License-Identifier: Apache-2.0
//
// Between the messages of the contract and the engine's structs. What a
// request asks for and this build cannot do is refused here, by field:
// UNIMPLEMENTED NOT_SUPPORTED. What is malformed is INVALID_ARGUMENT
// BAD_FIELD.
#ifndef MNEME_SERVER_CONVERT_H_
#define MNEME_SERVER_CONVERT_H_

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "mneme/v1/memory.pb.h"
#include "mneme/v1/models.pb.h"
#include "mneme/v1/sessions.pb.h"

namespace mneme::server {

google::protobuf::Timestamp ToTimestamp(absl::Time time);
google::protobuf::Duration ToDuration(absl::Duration duration);
// INVALID_ARGUMENT naming `field` outside of protobuf's own limits.
absl::StatusOr<absl::Duration> FromProto(const google::protobuf::Duration& time,
                                         const std::string& field);

// Changes when the session is made anew and when its epoch is raised.
std::string EtagOf(const SessionInfo& session);

v1::Session ToProto(const SessionInfo& session);
v1::Snapshot ToProto(const SnapshotInfo& snapshot);
v1::SessionEvent ToProto(const SessionEvent& event);
// Without hot_sessions.
v1::Model ToProto(const ModelInfo& model);
v1::Session::StateTier ToProto(StateTier tier);

// Says in `out` how a session's state came to be at hand.
template <typename Message>
void SetLoad(const LoadReport& load, Message* out) {
  out->set_state_tier(ToProto(load.tier));
  out->set_tokens_replayed(load.replayed_tokens);
  *out->mutable_load_time() = ToDuration(load.load_time);
}

// `model` stays empty where the request names none.
absl::StatusOr<CreateSessionOptions> FromProto(
    const v1::CreateSessionRequest& request);

absl::StatusOr<UpdateSessionOptions> FromProto(
    const v1::UpdateSessionRequest& request);
absl::StatusOr<ForkOptions> FromProto(const v1::ForkSessionRequest& request);
absl::StatusOr<RollbackOptions> FromProto(
    const v1::RollbackSessionRequest& request);
absl::StatusOr<ImportOptions> FromProto(
    const v1::ImportSessionRequest::Open& open);
absl::StatusOr<AppendOptions> FromProto(const v1::AppendRequest::Open& open);

// Takes the payload out of `segment`.
absl::StatusOr<AppendStream::Segment> FromProto(
    v1::AppendRequest::Segment* segment);

v1::AppendResponse::Opened ToProto(const AppendOpened& opened);

absl::StatusOr<GenerateOptions> FromProto(const v1::GenerateRequest& request);

// Adds an event to what `response` already says.
void AddEvent(const GenerateEvent& event, v1::GenerateResponse* response);

absl::StatusOr<ScoreOptions> FromProto(const v1::ScoreRequest::Open& open);

// Takes the text or the tokens out of `request`.
absl::StatusOr<Payload> TakePiece(v1::ScoreRequest* request);

v1::CommitSegmentResponse ToProto(const SegmentCommit& commit);
v1::ScoreTotals ToProto(const ScoreTotals& totals);
// The message that ends a scoring.
v1::ScoreResponse ToProto(const ScoreEvent& end);

// Adds an event to what `response` already says. `tokens`: whether each
// token's score was asked for.
void AddEvent(const ScoreEvent& event, bool tokens,
              v1::ScoreResponse* response);

}  // namespace mneme::server

#endif  // MNEME_SERVER_CONVERT_H_
