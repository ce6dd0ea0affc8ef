// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_GENERATE_REACTOR_H_
#define MNEME_SERVER_GENERATE_REACTOR_H_

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "mneme/v1/memory.pb.h"
#include "server/answer_feed.h"
#include "server/service_context.h"
#include "server/stream_pump.h"

namespace mneme::server {

// One Memory.Generate call. Owns itself. What a client does not read stays
// unpolled in the engine, which then pauses or goes on, as was agreed.
class GenerateReactor final
    : public grpc::ServerWriteReactor<v1::GenerateResponse>,
      public PumpedStream {
 public:
  // `call` lives until OnDone.
  GenerateReactor(const ServiceContext& context,
                  const grpc::CallbackServerContext& call,
                  const v1::GenerateRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void Advance() override;

 private:
  void Begin(const v1::GenerateRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetOutcome() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The client is gone, or its deadline has passed.
  void Lose() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const ServiceContext context_;
  const grpc::CallbackServerContext& call_;
  CountedRpc rpc_;

  absl::Mutex mu_;
  std::string session_ ABSL_GUARDED_BY(mu_);  // resource name
  AnswerFeed answer_ ABSL_GUARDED_BY(mu_);
  v1::GenerateResponse response_ ABSL_GUARDED_BY(mu_);  // being written
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  absl::optional<grpc::Status> outcome_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_GENERATE_REACTOR_H_
