// SPDX-License-Identifier: Apache-2.0
#include "server/append_reactor.h"

#include <utility>

#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "server/convert.h"
#include "server/status.h"

namespace mneme::server {

AppendReactor::AppendReactor(const grpc::CallbackServerContext& call,
                             const ServiceContext& context)
    : BidiCall(call, context, "mneme.v1.Memory/Append"), feed_(context) {
  Start();
}

absl::Status AppendReactor::Open(v1::AppendRequest* request) {
  const v1::AppendRequest::Open& open = request->open();
  MNEME_ASSIGN_OR_RETURN(options_, FromProto(open));
  session_ = open.session();
  resumes_ = open.resume();
  Load(options_.session, options_.uid);
  return absl::OkStatus();
}

absl::Status AppendReactor::Begin(std::shared_ptr<SessionHold> hold) {
  options_.hold = std::move(hold);
  MNEME_RETURN_IF_ERROR(feed_.Open(options_, this));
  options_.hold.reset();  // the stream has it
  if (resumes_) {
    context_.metrics->OnStreamResumed(feed_.model(), ResumeKind::kAppend);
  }
  opened_due_ = true;
  return absl::OkStatus();
}

absl::Status AppendReactor::Take(v1::AppendRequest* request) {
  switch (request->message_case()) {
    case v1::AppendRequest::kSegment:
      return feed_.Take(request->mutable_segment());
    case v1::AppendRequest::kFlush:
      feed_.Flush();
      return absl::OkStatus();
    case v1::AppendRequest::kHeartbeat:
      return absl::OkStatus();
    default:
      return BadField("message", "wanted segment, flush or heartbeat");
  }
}

absl::Status AppendReactor::HandOn() {
  MNEME_RETURN_IF_ERROR(feed_.Offer());
  const bool ended = input_ended() && !feed_.waiting();
  if (ended || pump()->draining()) {
    if (!feed_.settled()) return absl::OkStatus();
    last_ack_due_ = true;
    EndAfterLast(ended ? grpc::Status::OK : ToGrpcStatus(DrainingError()));
  } else if (readable() && !feed_.waiting() && feed_.writable()) {
    Read();
  }
  return absl::OkStatus();
}

bool AppendReactor::Fill(v1::AppendResponse* response) {
  if (std::exchange(opened_due_, false)) {
    *response->mutable_opened() = feed_.Opened();
    return true;
  }
  return feed_.FillThrottle(response->mutable_throttle()) ||
         feed_.FillAck(std::exchange(last_ack_due_, false),
                       response->mutable_ack());
}

void AppendReactor::CountCancel() {
  context_.metrics->OnCancelled(feed_.model(), CancelStage::kAppend);
}

void AppendReactor::CountEnd(absl::Duration elapsed) {
  context_.metrics->OnRequestEnded(feed_.model(), Operation::kAppend, elapsed);
}

}  // namespace mneme::server
