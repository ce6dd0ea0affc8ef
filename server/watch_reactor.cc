// SPDX-License-Identifier: Apache-2.0
#include "server/watch_reactor.h"

#include "engine/base/status_macros.h"
#include "server/convert.h"
#include "server/names.h"
#include "server/status.h"

namespace mneme::server {

WatchReactor::WatchReactor(const ServiceContext& context,
                           const v1::WatchSessionRequest& request)
    : WriteCall(context, "mneme.v1.Sessions/WatchSession") {
  Start([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) -> absl::Status {
    MNEME_ASSIGN_OR_RETURN(const std::string id,
                           ParseSessionName(request.name(), "name"));
    resource_ = request.name();
    MNEME_ASSIGN_OR_RETURN(watch_, context_.engine->WatchSession(id, this));
    return absl::OkStatus();
  });
}

bool WatchReactor::Fill(v1::SessionEvent* response) {
  const absl::optional<SessionEvent> event = watch_->Poll();
  if (!event.has_value()) {
    if (pump()->draining()) EndOnError(DrainingError());
    return false;
  }
  *response = ToProto(*event);
  if (watch_->ended()) End(grpc::Status::OK);
  return true;
}

}  // namespace mneme::server
