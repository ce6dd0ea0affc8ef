// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_WATCH_REACTOR_H_
#define MNEME_SERVER_WATCH_REACTOR_H_

#include <memory>

#include "mneme/v1/sessions.pb.h"
#include "server/write_call.h"

namespace mneme::server {

// One Sessions.WatchSession call: lasts until the client has enough, the
// session is gone or the daemon drains.
class WatchReactor final : public WriteCall<v1::SessionEvent> {
 public:
  WatchReactor(const ServiceContext& context,
               const v1::WatchSessionRequest& request);

 private:
  bool Fill(v1::SessionEvent* response) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Close() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { watch_.reset(); }

  std::unique_ptr<SessionWatch> watch_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_WATCH_REACTOR_H_
