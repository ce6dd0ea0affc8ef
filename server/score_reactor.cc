// SPDX-License-Identifier: Apache-2.0
#include "server/score_reactor.h"

#include <utility>

#include "engine/base/errors.h"
#include "server/convert.h"
#include "server/status.h"

namespace mneme::server {
namespace {

// Scores that one message may join; the last batch may go beyond.
constexpr int kScoresPerMessage = 4096;

}  // namespace

ScoreReactor::ScoreReactor(const ServiceContext& context)
    : PumpedStream(context.pump),
      context_(context),
      rpc_(context.metrics, context.clock, "mneme.v1.Memory/Score") {
  JoinPump();
  absl::MutexLock lock(&mu_);
  reading_ = true;
  StartRead(&request_);
}

void ScoreReactor::OnReadDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    reading_ = false;
    if (outcome_.has_value()) {
      // It came too late to matter.
    } else if (ok) {
      TakeMessage();
    } else {
      input_ended_ = true;
      if (stream_ == nullptr) {
        End(ToGrpcStatus(BadField("message", "the stream ended before open")));
      }
    }
  }
  Advance();
}

void ScoreReactor::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) End(grpc::Status::CANCELLED);
  }
  Advance();
}

void ScoreReactor::OnCancel() {
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    context_.metrics->OnCancelled(model_, CancelStage::kScore);
    outcome_ = grpc::Status::CANCELLED;
    stream_.reset();
  }
  Advance();
}

void ScoreReactor::OnDone() {
  LeavePump();
  delete this;
}

void ScoreReactor::Advance() {
  grpc::Status status;
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    if (!outcome_.has_value()) TakeInput();
    if (writing_) return;
    if (!outcome_.has_value() && FillResponse()) {
      writing_ = true;
      StartWrite(&response_);
      return;
    }
    if (!outcome_.has_value()) return;
    finished_ = true;
    stream_.reset();
    status = *outcome_;
    const absl::Duration elapsed = rpc_.End(status.error_code());
    context_.metrics->OnRequestEnded(model_, Operation::kScore, elapsed);
  }
  Finish(status);  // may end this object
}

void ScoreReactor::TakeMessage() {
  if (stream_ == nullptr) {
    Open();
    return;
  }
  if (request_.has_open()) {
    End(ToGrpcStatus(BadField("open", "wanted once, in the first message")));
    return;
  }
  absl::StatusOr<Payload> piece = TakePiece(&request_);
  if (piece.ok()) {
    piece_ = *std::move(piece);
  } else {
    End(ToGrpcStatus(piece.status(), session_));
  }
}

void ScoreReactor::Open() {
  if (!request_.has_open()) {
    End(ToGrpcStatus(BadField("message", "wanted open first")));
    return;
  }
  const absl::StatusOr<ScoreOptions> options = FromProto(request_.open());
  if (!options.ok()) {
    End(ToGrpcStatus(options.status()));
    return;
  }
  session_ = request_.open().session();
  every_token_ = request_.open().detail() == v1::ScoreRequest::TOKENS;
  absl::StatusOr<std::unique_ptr<Scoring>> stream =
      context_.engine->Score(*options, this);
  if (!stream.ok()) {
    End(ToGrpcStatus(stream.status(), session_));
    return;
  }
  stream_ = *std::move(stream);
  const absl::StatusOr<SessionInfo> info =
      context_.engine->GetSession(options->session);
  if (info.ok()) model_ = info->model;
}

void ScoreReactor::TakeInput() {
  if (stream_ == nullptr) {
    if (pump()->draining()) End(ToGrpcStatus(DrainingError()));
    return;
  }
  if (piece_.has_value()) {
    const absl::StatusOr<Offer> offer = stream_->Write(*piece_);
    if (!offer.ok()) {
      End(ToGrpcStatus(offer.status(), session_));
      return;
    }
    if (*offer == Offer::kLater) return;
    piece_.reset();
  }
  if (!input_ended_ && pump()->draining()) {
    // The client may take its time; the daemon does not wait for it.
    stream_.reset();
    End(ToGrpcStatus(DrainingError()));
    return;
  }
  if (input_ended_) {
    if (!end_told_) {
      end_told_ = true;
      stream_->FinishInput();
    }
  } else if (!reading_) {
    reading_ = true;
    StartRead(&request_);
  }
}

bool ScoreReactor::FillResponse() {
  if (stream_ == nullptr) return false;
  response_.Clear();
  while (response_.scores_size() < kScoresPerMessage) {
    const absl::optional<ScoreEvent> event = stream_->Poll();
    if (!event.has_value()) break;
    if (event->kind == ScoreEvent::Kind::kFinished) {
      if (TakeEnd(*event)) return true;
      break;
    }
    if (every_token_) AddEvent(*event, every_token_, &response_);
  }
  return response_.scores_size() > 0;
}

bool ScoreReactor::TakeEnd(const ScoreEvent& event) {
  // The session is free again before the client can know it.
  stream_.reset();
  if (!event.status.ok()) {
    const bool cut_off = pump()->draining() &&
                         event.status.code() == absl::StatusCode::kCancelled;
    End(ToGrpcStatus(cut_off ? DrainingError() : event.status, session_));
    return false;
  }
  AddEvent(event, every_token_, &response_);
  End(grpc::Status::OK);
  return true;
}

void ScoreReactor::End(grpc::Status status) {
  if (!outcome_.has_value()) outcome_ = std::move(status);
}

}  // namespace mneme::server
