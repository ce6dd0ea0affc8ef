// SPDX-License-Identifier: Apache-2.0
#include "server/converse_reactor.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "server/convert.h"
#include "server/status.h"

namespace mneme::server {
namespace {

// Parameters of an answer, which say neither of what session nor what to: the
// stream does.
absl::Status CheckParameters(const v1::GenerateRequest& parameters,
                             const std::string& where) {
  const char* set = nullptr;
  if (!parameters.session().empty()) set = "session";
  if (!parameters.uid().empty()) set = "uid";
  if (parameters.prompt_case() != v1::GenerateRequest::PROMPT_NOT_SET) {
    set = "prompt";
  }
  if (!parameters.request_id().empty()) set = "request_id";
  if (set == nullptr) return absl::OkStatus();
  return BadField(absl::StrCat(where, ".", set),
                  "found it set, wanted it unset");
}

absl::Status AnswerRuns() {
  return WithReason(absl::FailedPreconditionError(
                        "an answer runs: wait for its end, or interrupt it"),
                    {.reason = "ANSWER_RUNNING", .metadata = {}});
}

}  // namespace

ConverseReactor::ConverseReactor(const ServiceContext& context)
    : PumpedStream(context.pump),
      context_(context),
      rpc_(context.metrics, context.clock, "mneme.v1.Memory/Converse"),
      input_(context),
      answer_(context) {
  JoinPump();
  absl::MutexLock lock(&mu_);
  reading_ = true;
  StartRead(&request_);
}

void ConverseReactor::OnReadDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    reading_ = false;
    if (outcome_.has_value()) {
      // It came too late to matter.
    } else if (ok) {
      TakeMessage();
    } else {
      input_ended_ = true;
      if (!input_.is_open()) {
        End(ToGrpcStatus(BadField("message", "the stream ended before open")));
      }
    }
  }
  Advance();
}

void ConverseReactor::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) End(grpc::Status::CANCELLED);
  }
  Advance();
}

// What was taken and said stays in the session.
void ConverseReactor::OnCancel() {
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    context_.metrics->OnCancelled(
        input_.model(), !answer_.running()     ? CancelStage::kAppend
                        : answer_.had_output() ? CancelStage::kDecode
                                               : CancelStage::kPrefill);
    outcome_ = grpc::Status::CANCELLED;
    answer_.Lose(FinishReason::kCancelled);
    input_.Close();
  }
  Advance();
}

void ConverseReactor::OnDone() {
  LeavePump();
  delete this;
}

void ConverseReactor::Advance() {
  grpc::Status status;
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    if (!outcome_.has_value()) TakeInput();
    if (writing_) return;
    if (FillEvent()) {
      writing_ = true;
      StartWrite(&event_);
      return;
    }
    if (!outcome_.has_value()) return;
    finished_ = true;
    answer_.Lose(FinishReason::kCancelled);
    input_.Close();
    status = *outcome_;
    rpc_.End(status.error_code());
  }
  Finish(status);  // may end this object
}

void ConverseReactor::TakeMessage() {
  absl::Status status;
  if (!input_.is_open()) {
    status = request_.has_open() ? Open(request_.open())
                                 : BadField("message", "wanted open first");
  } else {
    switch (request_.message_case()) {
      case v1::ClientEvent::kSegment:
        status = answer_.running() ? AnswerRuns()
                                   : input_.Take(request_.mutable_segment());
        break;
      case v1::ClientEvent::kAsk:
        status = answer_.running() ? AnswerRuns() : Ask(request_.ask());
        break;
      case v1::ClientEvent::kInterrupt:
        if (answer_.running()) answer_.Interrupt();  // else it came too late
        break;
      case v1::ClientEvent::kHeartbeat:
        break;
      case v1::ClientEvent::kOpen:
        status = BadField("open", "wanted once, in the first message");
        break;
      case v1::ClientEvent::MESSAGE_NOT_SET:
        status =
            BadField("message", "wanted segment, ask, interrupt or heartbeat");
        break;
    }
  }
  if (!status.ok()) End(ToGrpcStatus(status, session_));
}

absl::Status ConverseReactor::Open(const v1::ClientEvent::Open& open) {
  MNEME_RETURN_IF_ERROR(CheckParameters(open.defaults(), "open.defaults"));
  v1::AppendRequest::Open writer;
  writer.set_session(open.session());
  writer.set_uid(open.uid());
  writer.set_client_id(open.client_id());
  writer.set_takeover(open.takeover());
  MNEME_ASSIGN_OR_RETURN(const AppendOptions options, FromProto(writer));
  session_ = open.session();
  uid_ = open.uid();
  defaults_ = open.defaults();
  MNEME_RETURN_IF_ERROR(input_.Open(options, this));
  opened_due_ = true;
  return absl::OkStatus();
}

absl::Status ConverseReactor::Ask(const v1::ClientEvent::Ask& ask) {
  v1::GenerateRequest request =
      ask.has_parameters() ? ask.parameters() : defaults_;
  MNEME_RETURN_IF_ERROR(CheckParameters(request, "ask.parameters"));
  request.set_session(session_);
  request.set_uid(uid_);
  request.set_request_id(ask.request_id());
  MNEME_ASSIGN_OR_RETURN(const GenerateOptions options, FromProto(request));
  asked_ = context_.clock->Monotonic();
  return answer_.Begin(options, this);
}

void ConverseReactor::TakeInput() {
  if (!input_.is_open()) {
    if (pump()->draining()) End(ToGrpcStatus(DrainingError()));
    return;
  }
  const absl::Status status = input_.Offer();
  if (!status.ok()) {
    End(ToGrpcStatus(status, session_));
    return;
  }
  const bool ended = input_ended_ && !input_.waiting();
  if ((ended || pump()->draining()) && !answer_.running()) {
    if (!input_.idle()) return;
    last_ack_due_ = true;
    End(ended ? grpc::Status::OK : ToGrpcStatus(DrainingError()));
    return;
  }
  if (reading_ || input_ended_ || input_.waiting()) return;
  if (!answer_.running() && !input_.writable()) return;
  reading_ = true;
  StartRead(&request_);
}

bool ConverseReactor::FillEvent() {
  if (!input_.is_open()) return false;
  if (outcome_.has_value() && !last_ack_due_) return false;
  event_.Clear();
  if (std::exchange(opened_due_, false)) {
    *event_.mutable_opened() = input_.Opened();
    return true;
  }
  // What came before an answer is acknowledged before it.
  if (input_.FillAck(last_ack_due_, event_.mutable_ack())) {
    last_ack_due_ = false;
    return true;
  }
  if (answer_.running()) {
    const bool filled = answer_.Fill(event_.mutable_answer());
    if (answer_.end().has_value()) EndAnswer();
    return filled;
  }
  return input_.FillThrottle(event_.mutable_throttle());
}

void ConverseReactor::EndAnswer() {
  context_.metrics->OnRequestEnded(answer_.model(), Operation::kGenerate,
                                   context_.clock->Monotonic() - asked_);
  if (!answer_.end()->ok()) End(ToGrpcStatus(*answer_.end(), session_));
}

void ConverseReactor::End(grpc::Status status) {
  if (outcome_.has_value()) return;
  outcome_ = std::move(status);
  if (last_ack_due_) return;
  // The session need not wait for a write.
  answer_.Lose(FinishReason::kCancelled);
  input_.Close();
}

}  // namespace mneme::server
