// SPDX-License-Identifier: Apache-2.0
#include "server/generate_reactor.h"

#include <utility>

#include "server/convert.h"
#include "server/status.h"

namespace mneme::server {
namespace {

// A client's clock may call it a deadline before ours does.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(100);

}  // namespace

GenerateReactor::GenerateReactor(const ServiceContext& context,
                                 const grpc::CallbackServerContext& call,
                                 const v1::GenerateRequest& request)
    : PumpedStream(context.pump),
      context_(context),
      call_(call),
      rpc_(context.metrics, context.clock, "mneme.v1.Memory/Generate"),
      answer_(context) {
  JoinPump();
  {
    absl::MutexLock lock(&mu_);
    Begin(request);
  }
  Advance();
}

void GenerateReactor::Begin(const v1::GenerateRequest& request) {
  const absl::StatusOr<GenerateOptions> options = FromProto(request);
  if (!options.ok()) {
    outcome_ = ToGrpcStatus(options.status());
    return;
  }
  session_ = request.session();
  const absl::Status begun = answer_.Begin(*options, this);
  if (!begun.ok()) outcome_ = ToGrpcStatus(begun, session_);
}

void GenerateReactor::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) Lose();
  }
  Advance();
}

void GenerateReactor::OnCancel() {
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    context_.metrics->OnCancelled(answer_.model(), answer_.had_output()
                                                       ? CancelStage::kDecode
                                                       : CancelStage::kPrefill);
    Lose();
  }
  Advance();
}

void GenerateReactor::Lose() {
  if (!outcome_.has_value()) outcome_ = grpc::Status::CANCELLED;
  const bool too_late = context_.clock->Now() + kDeadlineSlack >=
                        absl::FromChrono(call_.deadline());
  answer_.Lose(too_late ? FinishReason::kDeadline : FinishReason::kCancelled);
}

void GenerateReactor::OnDone() {
  LeavePump();
  delete this;
}

void GenerateReactor::Advance() {
  grpc::Status status;
  {
    absl::MutexLock lock(&mu_);
    if (finished_ || writing_) return;
    if (!outcome_.has_value()) {
      response_.Clear();
      const bool filled = answer_.Fill(&response_);
      if (answer_.end().has_value()) SetOutcome();
      if (filled) {
        writing_ = true;
        StartWrite(&response_);
        return;
      }
    }
    if (!outcome_.has_value()) return;
    finished_ = true;
    status = *outcome_;
    const absl::Duration elapsed = rpc_.End(status.error_code());
    context_.metrics->OnRequestEnded(answer_.model(), Operation::kGenerate,
                                     elapsed);
  }
  Finish(status);  // may end this object
}

void GenerateReactor::SetOutcome() {
  if (!answer_.cut_off()) {
    outcome_ = ToGrpcStatus(*answer_.end(), session_);
  } else {
    outcome_ = pump()->draining() ? ToGrpcStatus(DrainingError())
                                  : grpc::Status::CANCELLED;
  }
}

}  // namespace mneme::server
