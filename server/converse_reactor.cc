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

ConverseReactor::ConverseReactor(const grpc::CallbackServerContext& call,
                                 const ServiceContext& context)
    : BidiCall(call, context, "mneme.v1.Memory/Converse"),
      input_(context),
      answer_(context) {
  Start();
}

absl::Status ConverseReactor::Open(v1::ClientEvent* request) {
  const v1::ClientEvent::Open& open = request->open();
  MNEME_RETURN_IF_ERROR(CheckParameters(open.defaults(), "open.defaults"));
  v1::AppendRequest::Open writer;
  writer.set_session(open.session());
  writer.set_uid(open.uid());
  writer.set_client_id(open.client_id());
  writer.set_takeover(open.takeover());
  MNEME_ASSIGN_OR_RETURN(options_, FromProto(writer));
  session_ = open.session();
  defaults_ = open.defaults();
  Load(options_.session, options_.uid);
  return absl::OkStatus();
}

absl::Status ConverseReactor::Begin(std::shared_ptr<SessionHold> hold) {
  options_.hold = std::move(hold);
  MNEME_RETURN_IF_ERROR(input_.Open(options_, this));
  opened_due_ = true;
  return absl::OkStatus();
}

absl::Status ConverseReactor::Take(v1::ClientEvent* request) {
  switch (request->message_case()) {
    case v1::ClientEvent::kSegment:
      if (answer_.running()) return AnswerRuns();
      return input_.Take(request->mutable_segment());
    case v1::ClientEvent::kAsk:
      return answer_.running() ? AnswerRuns() : Ask(request->ask());
    case v1::ClientEvent::kInterrupt:
      if (answer_.running()) answer_.Interrupt();  // else it came too late
      return absl::OkStatus();
    case v1::ClientEvent::kHeartbeat:
      return absl::OkStatus();
    default:
      return BadField("message", "wanted segment, ask, interrupt or heartbeat");
  }
}

absl::Status ConverseReactor::Ask(const v1::ClientEvent::Ask& ask) {
  v1::GenerateRequest request =
      ask.has_parameters() ? ask.parameters() : defaults_;
  MNEME_RETURN_IF_ERROR(CheckParameters(request, "ask.parameters"));
  request.set_session(session_);
  request.set_uid(options_.uid);
  request.set_request_id(ask.request_id());
  MNEME_ASSIGN_OR_RETURN(GenerateOptions options, FromProto(request));
  options.hold = options_.hold;
  asked_ = context_.clock->Monotonic();
  return answer_.Begin(options, this);
}

absl::Status ConverseReactor::HandOn() {
  MNEME_RETURN_IF_ERROR(input_.Offer());
  const bool ended = input_ended() && !input_.waiting();
  if ((ended || pump()->draining()) && !answer_.running()) {
    if (!input_.settled()) return absl::OkStatus();
    last_ack_due_ = true;
    EndAfterLast(ended ? grpc::Status::OK : ToGrpcStatus(DrainingError()));
  } else if (readable() && !input_.waiting() &&
             (answer_.running() || input_.writable())) {
    Read();
  }
  return absl::OkStatus();
}

bool ConverseReactor::Fill(v1::ServerEvent* event) {
  if (std::exchange(opened_due_, false)) {
    *event->mutable_opened() = input_.Opened();
    return true;
  }
  // What came before an answer is acknowledged before it.
  if (input_.FillAck(std::exchange(last_ack_due_, false),
                     event->mutable_ack())) {
    return true;
  }
  if (!answer_.running()) return input_.FillThrottle(event->mutable_throttle());
  const bool filled = answer_.Fill(event->mutable_answer());
  if (answer_.end().has_value()) EndAnswer();
  return filled;
}

void ConverseReactor::EndAnswer() {
  context_.metrics->OnRequestEnded(answer_.model(), Operation::kGenerate,
                                   context_.clock->Monotonic() - asked_);
  if (!answer_.end()->ok()) End(ToGrpcStatus(*answer_.end(), session_));
}

void ConverseReactor::Close() {
  answer_.Lose(FinishReason::kCancelled);
  input_.Close();
  options_.hold.reset();
}

void ConverseReactor::CountCancel() {
  context_.metrics->OnCancelled(input_.model(),
                                !answer_.running()     ? CancelStage::kAppend
                                : answer_.had_output() ? CancelStage::kDecode
                                                       : CancelStage::kPrefill);
}

}  // namespace mneme::server
