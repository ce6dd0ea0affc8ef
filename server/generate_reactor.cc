// SPDX-License-Identifier: Apache-2.0
#include "server/generate_reactor.h"

#include <utility>

#include "server/convert.h"
#include "server/status.h"

namespace mneme::server {
namespace {

// Tokens that one message may join.
constexpr int kMaxTokensPerMessage = 256;
// A client's clock may call it a deadline before ours does.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(100);

}  // namespace

GenerateReactor::GenerateReactor(const ServiceContext& context,
                                 const grpc::CallbackServerContext& call,
                                 const v1::GenerateRequest& request)
    : PumpedStream(context.pump),
      context_(context),
      call_(call),
      rpc_(context.metrics, context.clock, "mneme.v1.Memory/Generate") {
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
  absl::StatusOr<std::unique_ptr<Generation>> stream =
      context_.engine->Generate(*options, this);
  if (!stream.ok()) {
    outcome_ = ToGrpcStatus(stream.status(), session_);
    return;
  }
  stream_ = *std::move(stream);
  const absl::StatusOr<SessionInfo> info =
      context_.engine->GetSession(options->session);
  if (info.ok()) model_ = info->model;
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
    context_.metrics->OnCancelled(
        model_, had_token_ ? CancelStage::kDecode : CancelStage::kPrefill);
    Lose();
  }
  Advance();
}

void GenerateReactor::Lose() {
  if (!outcome_.has_value()) outcome_ = grpc::Status::CANCELLED;
  if (stream_ == nullptr) return;
  const bool too_late = context_.clock->Now() + kDeadlineSlack >=
                        absl::FromChrono(call_.deadline());
  stream_->Disconnect(too_late ? FinishReason::kDeadline
                               : FinishReason::kCancelled);
  stream_.reset();
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
    context_.metrics->OnRequestEnded(model_, Operation::kGenerate, elapsed);
  }
  Finish(status);  // may end this object
}

bool GenerateReactor::FillResponse() {
  response_.Clear();
  bool filled = false;
  while (response_.tokens_size() < kMaxTokensPerMessage) {
    const absl::optional<GenerateEvent> event = stream_->Poll();
    if (!event.has_value()) return filled;
    if (event->kind == GenerateEvent::Kind::kFinished) {
      return TakeEnd(*event) || filled;
    }
    if (event->kind == GenerateEvent::Kind::kOutput) had_token_ = true;
    if (event->attached) {
      attached_ = true;
      context_.metrics->OnStreamResumed(model_, ResumeKind::kGenerate);
    }
    AddEvent(*event, &response_);
    filled = true;
  }
  return true;
}

bool GenerateReactor::TakeEnd(const GenerateEvent& event) {
  // The session is free again before the client can know it.
  stream_.reset();
  if (!event.status.ok()) {
    outcome_ = ToGrpcStatus(event.status, session_);
    return false;
  }
  const bool cut_off = event.reason == FinishReason::kCancelled ||
                       event.reason == FinishReason::kDeadline;
  // To one that asks what became of it, this is an answer like any other.
  if (cut_off && !attached_) {
    outcome_ = pump()->draining() ? ToGrpcStatus(DrainingError())
                                  : grpc::Status::CANCELLED;
  } else {
    outcome_ = grpc::Status::OK;
  }
  AddEvent(event, &response_);
  return true;
}

}  // namespace mneme::server
