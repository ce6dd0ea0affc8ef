// SPDX-License-Identifier: Apache-2.0
#include "server/append_reactor.h"

#include <utility>

#include "engine/base/errors.h"
#include "server/convert.h"
#include "server/status.h"

namespace mneme::server {

AppendReactor::AppendReactor(const ServiceContext& context)
    : PumpedStream(context.pump),
      context_(context),
      rpc_(context.metrics, context.clock, "mneme.v1.Memory/Append"),
      feed_(context) {
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
      if (!feed_.is_open()) {
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
    context_.metrics->OnCancelled(feed_.model(), CancelStage::kAppend);
    outcome_ = grpc::Status::CANCELLED;
    feed_.Close();
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
    feed_.Close();
    status = *outcome_;
    const absl::Duration elapsed = rpc_.End(status.error_code());
    context_.metrics->OnRequestEnded(feed_.model(), Operation::kAppend,
                                     elapsed);
  }
  Finish(status);  // may end this object
}

void AppendReactor::TakeMessage() {
  if (!feed_.is_open()) {
    Open();
    return;
  }
  switch (request_.message_case()) {
    case v1::AppendRequest::kSegment: {
      const absl::Status taken = feed_.Take(request_.mutable_segment());
      if (!taken.ok()) End(ToGrpcStatus(taken, session_));
      break;
    }
    case v1::AppendRequest::kFlush:
      feed_.Flush();
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
  const absl::Status opened = feed_.Open(*options, this);
  if (!opened.ok()) {
    End(ToGrpcStatus(opened, session_));
    return;
  }
  if (open.resume()) {
    context_.metrics->OnStreamResumed(feed_.model(), ResumeKind::kAppend);
  }
  opened_due_ = true;
}

void AppendReactor::TakeInput() {
  if (!feed_.is_open()) {
    if (pump()->draining()) End(ToGrpcStatus(DrainingError()));
    return;
  }
  const absl::Status status = feed_.Offer();
  if (!status.ok()) {
    End(ToGrpcStatus(status, session_));
    return;
  }
  const bool ended = input_ended_ && !feed_.waiting();
  if (ended || pump()->draining()) {
    if (!feed_.idle()) return;
    last_ack_due_ = true;
    End(ended ? grpc::Status::OK : ToGrpcStatus(DrainingError()));
    return;
  }
  if (feed_.waiting() || reading_ || !feed_.writable()) return;
  reading_ = true;
  StartRead(&request_);
}

bool AppendReactor::FillResponse() {
  if (!feed_.is_open()) return false;
  // After an error nothing more is said; what is absorbed the client finds
  // when it opens the next stream.
  if (outcome_.has_value() && !last_ack_due_) return false;
  response_.Clear();
  if (std::exchange(opened_due_, false)) {
    *response_.mutable_opened() = feed_.Opened();
    return true;
  }
  if (feed_.FillThrottle(response_.mutable_throttle())) return true;
  if (!feed_.FillAck(last_ack_due_, response_.mutable_ack())) return false;
  last_ack_due_ = false;
  return true;
}

void AppendReactor::End(grpc::Status status) {
  if (outcome_.has_value()) return;
  outcome_ = std::move(status);
  if (!last_ack_due_) feed_.Close();  // the session need not wait for a write
}

}  // namespace mneme::server
