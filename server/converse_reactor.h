// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_CONVERSE_REACTOR_H_
#define MNEME_SERVER_CONVERSE_REACTOR_H_

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "mneme/v1/memory.pb.h"
#include "server/answer_feed.h"
#include "server/append_feed.h"
#include "server/service_context.h"
#include "server/stream_pump.h"

namespace mneme::server {

// One Memory.Converse call: the session's writer for as long as it lasts, and
// one answer at a time. Owns itself, and advances as AppendReactor does; while
// an answer runs it reads on, to hear an interruption.
class ConverseReactor final
    : public grpc::ServerBidiReactor<v1::ClientEvent, v1::ServerEvent>,
      public PumpedStream {
 public:
  explicit ConverseReactor(const ServiceContext& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void Advance() override;

 private:
  // Each does its part under the lock; End sets the outcome, once.
  void TakeMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Open(const v1::ClientEvent::Open& open)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Ask(const v1::ClientEvent::Ask& ask)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakeInput() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool FillEvent() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndAnswer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const ServiceContext context_;
  CountedRpc rpc_;

  absl::Mutex mu_;
  std::string session_ ABSL_GUARDED_BY(mu_);  // resource name
  std::string uid_ ABSL_GUARDED_BY(mu_);
  v1::GenerateRequest defaults_ ABSL_GUARDED_BY(mu_);
  AppendFeed input_ ABSL_GUARDED_BY(mu_);
  AnswerFeed answer_ ABSL_GUARDED_BY(mu_);
  absl::Duration asked_ ABSL_GUARDED_BY(mu_);  // on the monotonic clock

  v1::ClientEvent request_ ABSL_GUARDED_BY(mu_);  // being read
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool input_ended_ ABSL_GUARDED_BY(mu_) = false;
  v1::ServerEvent event_ ABSL_GUARDED_BY(mu_);  // being written
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool opened_due_ ABSL_GUARDED_BY(mu_) = false;
  bool last_ack_due_ ABSL_GUARDED_BY(mu_) = false;
  absl::optional<grpc::Status> outcome_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_CONVERSE_REACTOR_H_
