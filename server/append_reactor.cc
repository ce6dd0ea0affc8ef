// SPDX-License-Identifier: Apache-2.0
#include "server/append_reactor.h"

#include <algorithm>
#include <utility>

#include "engine/base/errors.h"
#include "server/convert.h"
#include "server/status.h"

namespace mneme::server {
namespace {

// Bytes or tokens that are absorbed before an ack says so, unless all are or
// the client asks: a fraction of the credit, so that it never runs dry.
constexpr int64_t kAckEvery = 4 << 10;
constexpr absl::Duration kThrottleDelay = absl::Milliseconds(200);

int64_t LengthOf(const Payload& payload) {
  return std::visit(
      [](const auto& items) { return static_cast<int64_t>(items.size()); },
      payload);
}

}  // namespace

AppendReactor::AppendReactor(const ServiceContext& context)
    : PumpedStream(context.pump),
      context_(context),
      rpc_(context.metrics, context.clock, "mneme.v1.Memory/Append") {
  JoinPump();
  absl::MutexLock lock(&mu_);
  reading_ = true;
  StartRead(&request_);
}

void AppendReactor::OnReadDone(bool ok) {
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

void AppendReactor::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) End(grpc::Status::CANCELLED);
  }
  Advance();
}

// What was taken stays in the session.
void AppendReactor::OnCancel() {
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    context_.metrics->OnCancelled(model_, CancelStage::kAppend);
    outcome_ = grpc::Status::CANCELLED;
    stream_.reset();
  }
  Advance();
}

void AppendReactor::OnDone() {
  LeavePump();
  delete this;
}

void AppendReactor::Advance() {
  grpc::Status status;
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    if (!outcome_.has_value()) TakeInput();
    if (writing_) return;
    if (FillResponse()) {
      writing_ = true;
      StartWrite(&response_);
      return;
    }
    if (!outcome_.has_value()) return;
    finished_ = true;
    stream_.reset();
    status = *outcome_;
    const absl::Duration elapsed = rpc_.End(status.error_code());
    context_.metrics->OnRequestEnded(model_, Operation::kAppend, elapsed);
  }
  Finish(status);  // may end this object
}

void AppendReactor::TakeMessage() {
  if (stream_ == nullptr) {
    Open();
    return;
  }
  switch (request_.message_case()) {
    case v1::AppendRequest::kSegment: {
      absl::StatusOr<AppendStream::Segment> segment =
          FromProto(request_.mutable_segment());
      if (segment.ok()) {
        segment_ = *std::move(segment);
      } else {
        End(ToGrpcStatus(segment.status(), session_));
      }
      break;
    }
    case v1::AppendRequest::kFlush:
      flush_offset_ = taken_end_;
      break;
    case v1::AppendRequest::kHeartbeat:
      break;
    case v1::AppendRequest::kOpen:
      End(ToGrpcStatus(BadField("open", "wanted once, in the first message")));
      break;
    case v1::AppendRequest::MESSAGE_NOT_SET:
      End(ToGrpcStatus(
          BadField("message", "wanted segment, flush or heartbeat")));
      break;
  }
}

void AppendReactor::Open() {
  if (!request_.has_open()) {
    End(ToGrpcStatus(BadField("message", "wanted open first")));
    return;
  }
  const v1::AppendRequest::Open& open = request_.open();
  const absl::StatusOr<AppendOptions> options = FromProto(open);
  if (!options.ok()) {
    End(ToGrpcStatus(options.status()));
    return;
  }
  session_ = open.session();
  session_id_ = options->session;
  absl::StatusOr<std::unique_ptr<AppendStream>> stream =
      context_.engine->OpenAppend(*options, this);
  if (!stream.ok()) {
    End(ToGrpcStatus(stream.status(), session_));
    return;
  }
  stream_ = *std::move(stream);
  const absl::StatusOr<SessionInfo> info =
      context_.engine->GetSession(session_id_);
  if (info.ok()) model_ = info->model;  // else the stream's status will tell
  if (open.resume()) context_.metrics->OnStreamResumed(model_);
  taken_end_ = stream_->opened().next_offset;
  acked_offset_ = stream_->opened().absorbed_offset;
  opened_due_ = true;
}

void AppendReactor::TakeInput() {
  if (stream_ == nullptr) {
    if (pump()->draining()) End(ToGrpcStatus(DrainingError()));
    return;
  }
  const bool draining = pump()->draining();
  if (segment_.has_value() && !draining) OfferSegment();
  if (outcome_.has_value()) return;
  if (const absl::Status status = stream_->status(); !status.ok()) {
    End(ToGrpcStatus(status, session_));
    return;
  }
  if (draining || (input_ended_ && !segment_.has_value())) {
    if (stream_->progress().idle) {
      last_ack_due_ = true;
      End(input_ended_ && !segment_.has_value()
              ? grpc::Status::OK
              : ToGrpcStatus(DrainingError()));
    }
    return;
  }
  if (segment_.has_value() || reading_) return;
  if (stream_->writable()) {
    stalled_ = false;
    reading_ = true;
    StartRead(&request_);
  } else {
    NoteStall();
  }
}

void AppendReactor::OfferSegment() {
  const absl::StatusOr<AppendStream::Taken> taken = stream_->Write(*segment_);
  if (!taken.ok()) {
    End(ToGrpcStatus(taken.status(), session_));
    return;
  }
  if (taken->offer == Offer::kLater) {
    NoteStall();
    return;
  }
  stalled_ = false;
  taken_end_ =
      std::max(taken_end_, segment_->offset + LengthOf(segment_->payload));
  segment_.reset();
  if (taken->duplicate) duplicate_ = true;
  if (!taken->verified) verified_ = false;
}

// A wait counts once, and the client hears once when it is for a generation.
void AppendReactor::NoteStall() {
  if (!stalled_) {
    stalled_ = true;
    throttle_sent_ = false;
    context_.metrics->OnCreditStalled(model_);
  }
  if (throttle_sent_) return;
  const absl::StatusOr<SessionInfo> info =
      context_.engine->GetSession(session_id_);
  if (info.ok() && info->activity == SessionActivity::kGenerating) {
    throttle_due_ = true;
    throttle_sent_ = true;
  }
}

bool AppendReactor::FillResponse() {
  if (stream_ == nullptr) return false;
  // After an error nothing more is said; what is absorbed the client finds
  // when it opens the next stream.
  if (outcome_.has_value() && !last_ack_due_) return false;
  if (opened_due_) {
    opened_due_ = false;
    response_.Clear();
    *response_.mutable_opened() = ToProto(stream_->opened());
    return true;
  }
  if (throttle_due_) {
    throttle_due_ = false;
    response_.Clear();
    *response_.mutable_throttle()->mutable_retry_delay() =
        ToDuration(kThrottleDelay);
    response_.mutable_throttle()->set_reason(
        "a generation is the session's writer");
    return true;
  }
  return FillAck();
}

bool AppendReactor::FillAck() {
  const AppendProgress progress = stream_->progress();
  const bool flushed =
      flush_offset_.has_value() &&
      (progress.idle || progress.absorbed_offset >= *flush_offset_);
  const int64_t news = progress.absorbed_offset - acked_offset_;
  const bool news_enough = news >= kAckEvery || (news > 0 && progress.idle);
  if (!last_ack_due_ && !flushed && !duplicate_ && !news_enough) return false;
  response_.Clear();
  v1::AppendResponse::Ack* const ack = response_.mutable_ack();
  ack->set_durable_offset(0);
  ack->set_absorbed_offset(progress.absorbed_offset);
  ack->set_position(progress.position);
  ack->set_tokens(progress.tokens);
  ack->set_verified(verified_);
  ack->set_duplicate(duplicate_);
  acked_offset_ = std::max(acked_offset_, progress.absorbed_offset);
  if (flushed) flush_offset_.reset();
  last_ack_due_ = false;
  duplicate_ = false;
  verified_ = true;
  return true;
}

void AppendReactor::End(grpc::Status status) {
  if (!outcome_.has_value()) outcome_ = std::move(status);
}

}  // namespace mneme::server
