// SPDX-License-Identifier: Apache-2.0
#include "server/generate_reactor.h"

#include <utility>

#include "engine/base/status_macros.h"
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
    : WriteCall(context, "mneme.v1.Memory/Generate"),
      call_(call),
      answer_(context) {
  Start([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) -> absl::Status {
    MNEME_ASSIGN_OR_RETURN(options_, FromProto(request));
    resource_ = request.session();
    context_.engine->Load(options_.session, options_.uid, load_.Await(this));
    return absl::OkStatus();
  });
}

absl::Status GenerateReactor::Begin(std::shared_ptr<SessionHold> hold) {
  options_.hold = std::move(hold);
  MNEME_RETURN_IF_ERROR(answer_.Begin(options_, this));
  options_ = {};  // the stream has what it wants of it
  return absl::OkStatus();
}

bool GenerateReactor::Fill(v1::GenerateResponse* response) {
  if (load_.pending()) {
    auto loaded = load_.Take();
    if (!loaded.has_value()) {
      if (pump()->draining()) EndOnError(DrainingError());
      return false;
    }
    EndOnError(loaded->ok() ? Begin(**std::move(loaded)) : loaded->status());
  }
  if (!answer_.running()) return false;
  const bool filled = answer_.Fill(response);
  if (answer_.end().has_value()) TakeEnd();
  return filled;
}

void GenerateReactor::TakeEnd() {
  if (!answer_.cut_off()) {
    End(ToGrpcStatus(*answer_.end(), resource_));
  } else {
    End(pump()->draining() ? ToGrpcStatus(DrainingError())
                           : grpc::Status::CANCELLED);
  }
}

// A stream that is lost and has not ended goes on or ends, as was agreed.
void GenerateReactor::Close() {
  load_.GiveUp();
  options_.hold.reset();
  const bool too_late = context_.clock->Now() + kDeadlineSlack >=
                        absl::FromChrono(call_.deadline());
  answer_.Lose(too_late ? FinishReason::kDeadline : FinishReason::kCancelled);
}

void GenerateReactor::CountCancel() {
  context_.metrics->OnCancelled(answer_.model(), answer_.had_output()
                                                     ? CancelStage::kDecode
                                                     : CancelStage::kPrefill);
}

void GenerateReactor::CountEnd(absl::Duration elapsed) {
  context_.metrics->OnRequestEnded(answer_.model(), Operation::kGenerate,
                                   elapsed);
}

}  // namespace mneme::server
