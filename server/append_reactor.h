// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_APPEND_REACTOR_H_
#define MNEME_SERVER_APPEND_REACTOR_H_

#include <memory>

#include "mneme/v1/memory.pb.h"
#include "server/append_feed.h"
#include "server/bidi_call.h"

namespace mneme::server {

// One Memory.Append call. It reads the next segment only while the session has
// credit, and keeps the one that waits.
class AppendReactor final
    : public BidiCall<v1::AppendRequest, v1::AppendResponse> {
 public:
  AppendReactor(const grpc::CallbackServerContext& call,
                const ServiceContext& context);

 private:
  absl::Status Open(v1::AppendRequest* request) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Begin(std::shared_ptr<SessionHold> hold) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Take(v1::AppendRequest* request) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status HandOn() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool Fill(v1::AppendResponse* response) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Close() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { feed_.Close(); }
  void CountCancel() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CountEnd(absl::Duration elapsed) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  AppendOptions options_ ABSL_GUARDED_BY(mu_);
  bool resumes_ ABSL_GUARDED_BY(mu_) = false;
  AppendFeed feed_ ABSL_GUARDED_BY(mu_);
  bool opened_due_ ABSL_GUARDED_BY(mu_) = false;
  bool last_ack_due_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_APPEND_REACTOR_H_
