// SPDX-License-Identifier: Apache-2.0
#include "server/score_reactor.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "server/answer.h"
#include "server/convert.h"
#include "server/request_tag.h"
#include "server/status.h"

namespace mneme::server {
namespace {

constexpr char kMethod[] = "mneme.v1.Memory/Score";
// Scores that one message may join; the last batch may go beyond.
constexpr int kScoresPerMessage = 4096;

}  // namespace

ScoreReactor::ScoreReactor(const grpc::CallbackServerContext& call,
                           const ServiceContext& context)
    : BidiCall(call, context, kMethod) {
  Start();
}

absl::Status ScoreReactor::Open(v1::ScoreRequest* request) {
  MNEME_ASSIGN_OR_RETURN(options_, FromProto(request->open()));
  session_ = request->open().session();
  every_token_ = request->open().detail() == v1::ScoreRequest::TOKENS;
  if (!request->open().request_id().empty()) DoOnce(request->open());
  if (answer_.pending()) {
    BeginWithout();
  } else {
    Load(options_.session, options_.uid);
  }
  return absl::OkStatus();
}

void ScoreReactor::DoOnce(const v1::ScoreRequest::Open& open) {
  options_.request = TagOf<ScoreEvent>(kMethod, open);
  ShareOnce<v1::ScoreRequest::Open, v1::ScoreResponse>(
      *context_.request_ids, kMethod, open,
      [&](Engine::Done<v1::ScoreResponse> done)
          ABSL_NO_THREAD_SAFETY_ANALYSIS { done_ = std::move(done); },
      answer_.Await(this));
  if (done_ != nullptr) answer_.GiveUp();
}

absl::Status ScoreReactor::Begin(std::shared_ptr<SessionHold> hold) {
  options_.hold = std::move(hold);
  MNEME_ASSIGN_OR_RETURN(stream_, context_.engine->Score(options_, this));
  options_.hold.reset();  // the stream has it
  const absl::StatusOr<SessionInfo> info =
      context_.engine->GetSession(options_.session);
  if (info.ok()) model_ = info->model;
  return absl::OkStatus();
}

absl::Status ScoreReactor::Take(v1::ScoreRequest* request) {
  MNEME_ASSIGN_OR_RETURN(piece_, TakePiece(request));
  return absl::OkStatus();
}

absl::Status ScoreReactor::HandOn() {
  if (stream_ == nullptr) return absl::OkStatus();
  if (piece_.has_value()) {
    MNEME_ASSIGN_OR_RETURN(const Offer offer, stream_->Write(*piece_));
    if (offer == Offer::kLater) return absl::OkStatus();
    piece_.reset();
  }
  if (input_ended()) {
    if (!std::exchange(end_told_, true)) stream_->FinishInput();
    return absl::OkStatus();
  }
  // The client may take its time; the daemon does not wait for it.
  if (pump()->draining()) return DrainingError();
  if (readable()) Read();
  return absl::OkStatus();
}

bool ScoreReactor::Fill(v1::ScoreResponse* response) {
  if (stream_ == nullptr) return FillAnswer(response);
  while (response->scores_size() < kScoresPerMessage) {
    const absl::optional<ScoreEvent> event = stream_->Poll();
    if (!event.has_value()) break;
    if (event->kind == ScoreEvent::Kind::kFinished) {
      return TakeEnd(*event, response);
    }
    if (every_token_) AddEvent(*event, every_token_, response);
  }
  return response->scores_size() > 0;
}

bool ScoreReactor::FillAnswer(v1::ScoreResponse* response) {
  if (!answer_.pending()) return false;
  auto answer = answer_.Take();
  if (!answer.has_value()) return false;
  End(ToGrpcStatus(answer->status(), session_));
  if (answer->ok()) *response = **std::move(answer);
  return answer->ok();
}

bool ScoreReactor::TakeEnd(const ScoreEvent& event,
                           v1::ScoreResponse* response) {
  if (event.status.ok()) {
    AddEvent(event, every_token_, response);
    if (done_ != nullptr) std::exchange(done_, nullptr)(ToProto(event));
    End(grpc::Status::OK);
    return true;
  }
  const bool cut_off =
      pump()->draining() && event.status.code() == absl::StatusCode::kCancelled;
  End(ToGrpcStatus(cut_off ? DrainingError() : event.status, session_));
  return response->scores_size() > 0;
}

void ScoreReactor::Close() {
  if (done_ != nullptr) {
    std::exchange(done_, nullptr)(
        absl::AbortedError("the score of this request_id was cut off"));
  }
  answer_.GiveUp();
  stream_.reset();
}

void ScoreReactor::CountCancel() {
  context_.metrics->OnCancelled(model_, CancelStage::kScore);
}

void ScoreReactor::CountEnd(absl::Duration elapsed) {
  context_.metrics->OnRequestEnded(model_, Operation::kScore, elapsed);
}

}  // namespace mneme::server
