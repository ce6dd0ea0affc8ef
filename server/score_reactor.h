// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_SCORE_REACTOR_H_
#define MNEME_SERVER_SCORE_REACTOR_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "mneme/v1/memory.pb.h"
#include "server/service_context.h"
#include "server/stream_pump.h"

namespace mneme::server {

// One Memory.Score call. Owns itself. The next piece is read when the one
// before was taken; scores that wait while a message is being written go into
// the next one together.
class ScoreReactor final
    : public grpc::ServerBidiReactor<v1::ScoreRequest, v1::ScoreResponse>,
      public PumpedStream {
 public:
  explicit ScoreReactor(const ServiceContext& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void Advance() override;

 private:
  void TakeMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakeInput() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Polls what is ready into response_; false if nothing is to be said.
  bool FillResponse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes the last event; false if the client is not to see it.
  bool TakeEnd(const ScoreEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const ServiceContext context_;
  CountedRpc rpc_;

  absl::Mutex mu_;
  std::string session_ ABSL_GUARDED_BY(mu_);  // resource name
  std::string model_ ABSL_GUARDED_BY(mu_);
  bool every_token_ ABSL_GUARDED_BY(mu_) = false;
  // Null before Open, and from the end on.
  std::unique_ptr<Scoring> stream_ ABSL_GUARDED_BY(mu_);

  v1::ScoreRequest request_ ABSL_GUARDED_BY(mu_);  // being read
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool input_ended_ ABSL_GUARDED_BY(mu_) = false;
  bool end_told_ ABSL_GUARDED_BY(mu_) = false;
  // Waits to be taken by the engine; nothing is read meanwhile.
  absl::optional<Payload> piece_ ABSL_GUARDED_BY(mu_);

  v1::ScoreResponse response_ ABSL_GUARDED_BY(mu_);  // being written
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  absl::optional<grpc::Status> outcome_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_SCORE_REACTOR_H_
