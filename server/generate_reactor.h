// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_GENERATE_REACTOR_H_
#define MNEME_SERVER_GENERATE_REACTOR_H_

#include <grpcpp/grpcpp.h>

#include <memory>

#include "absl/base/thread_annotations.h"
#include "mneme/v1/memory.pb.h"
#include "server/answer_feed.h"
#include "server/later.h"
#include "server/service_context.h"
#include "server/write_call.h"

namespace mneme::server {

// One Memory.Generate call. What a client does not read stays unpolled in the
// engine, which then pauses or goes on, as was agreed.
class GenerateReactor final : public WriteCall<v1::GenerateResponse> {
 public:
  // `call` lives until OnDone.
  GenerateReactor(const ServiceContext& context,
                  const grpc::CallbackServerContext& call,
                  const v1::GenerateRequest& request);

 private:
  bool Fill(v1::GenerateResponse* response) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Close() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CountCancel() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CountEnd(absl::Duration elapsed) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // The session is in memory.
  absl::Status Begin(std::shared_ptr<SessionHold> hold)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakeEnd() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const grpc::CallbackServerContext& call_;
  GenerateOptions options_ ABSL_GUARDED_BY(mu_);
  Later<std::shared_ptr<SessionHold>> load_ ABSL_GUARDED_BY(mu_);
  AnswerFeed answer_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_GENERATE_REACTOR_H_
