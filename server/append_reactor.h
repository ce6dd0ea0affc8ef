// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_APPEND_REACTOR_H_
#define MNEME_SERVER_APPEND_REACTOR_H_

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "mneme/v1/memory.pb.h"
#include "server/append_feed.h"
#include "server/service_context.h"
#include "server/stream_pump.h"

namespace mneme::server {

// One Memory.Append call. Owns itself.
//
// Whatever happens, Advance looks at everything and does what can be done: it
// offers the segment that waits, reads the next message only while the
// session has credit, and writes at most one message at a time, so acks join
// while the client is slow. The engine's stream is gone before the client
// hears the final status: the session is free for its next writer.
class AppendReactor final
    : public grpc::ServerBidiReactor<v1::AppendRequest, v1::AppendResponse>,
      public PumpedStream {
 public:
  explicit AppendReactor(const ServiceContext& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void Advance() override;

 private:
  // Each does its part under the lock; End sets the outcome, once.
  void TakeMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakeInput() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool FillResponse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const ServiceContext context_;
  CountedRpc rpc_;

  absl::Mutex mu_;
  std::string session_ ABSL_GUARDED_BY(mu_);  // resource name
  AppendFeed feed_ ABSL_GUARDED_BY(mu_);

  v1::AppendRequest request_ ABSL_GUARDED_BY(mu_);  // being read
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool input_ended_ ABSL_GUARDED_BY(mu_) = false;

  v1::AppendResponse response_ ABSL_GUARDED_BY(mu_);  // being written
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool opened_due_ ABSL_GUARDED_BY(mu_) = false;
  bool last_ack_due_ ABSL_GUARDED_BY(mu_) = false;

  absl::optional<grpc::Status> outcome_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_APPEND_REACTOR_H_
