// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_SCORE_REACTOR_H_
#define MNEME_SERVER_SCORE_REACTOR_H_

#include <memory>
#include <string>

#include "absl/types/optional.h"
#include "mneme/v1/memory.pb.h"
#include "server/bidi_call.h"
#include "server/later.h"

namespace mneme::server {

// One Memory.Score call. The next piece is read when the one before was taken;
// scores that wait while a message is being written go into the next one
// together.
class ScoreReactor final
    : public BidiCall<v1::ScoreRequest, v1::ScoreResponse> {
 public:
  ScoreReactor(const grpc::CallbackServerContext& call,
               const ServiceContext& context);

 private:
  absl::Status Open(v1::ScoreRequest* request) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Begin(std::shared_ptr<SessionHold> hold) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Take(v1::ScoreRequest* request) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status HandOn() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool Fill(v1::ScoreResponse* response) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Close() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CountCancel() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CountEnd(absl::Duration elapsed) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Has the work of this call done once for its request id: by this call, or
  // by one whose answer is waited for.
  void DoOnce(const v1::ScoreRequest::Open& open)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Ends the call with the answer that another one was given, once it is there.
  bool FillAnswer(v1::ScoreResponse* response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes the last event; false if the client is not to see it.
  bool TakeEnd(const ScoreEvent& event, v1::ScoreResponse* response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  ScoreOptions options_ ABSL_GUARDED_BY(mu_);
  std::string model_ ABSL_GUARDED_BY(mu_);
  bool every_token_ ABSL_GUARDED_BY(mu_) = false;
  // Null before Begin, and from the end on.
  std::unique_ptr<Scoring> stream_ ABSL_GUARDED_BY(mu_);
  // Waits to be taken by the engine; nothing is read meanwhile.
  absl::optional<Payload> piece_ ABSL_GUARDED_BY(mu_);
  bool end_told_ ABSL_GUARDED_BY(mu_) = false;  // to the engine
  // While this call does the work: who hears what comes of it.
  Engine::Done<v1::ScoreResponse> done_ ABSL_GUARDED_BY(mu_);
  // While another one does, or has done, it.
  Later<v1::ScoreResponse> answer_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_SCORE_REACTOR_H_
