// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_CONVERSE_REACTOR_H_
#define MNEME_SERVER_CONVERSE_REACTOR_H_

#include <memory>
#include <string>

#include "mneme/v1/memory.pb.h"
#include "server/answer_feed.h"
#include "server/append_feed.h"
#include "server/bidi_call.h"

namespace mneme::server {

// One Memory.Converse call: the session's writer for as long as it lasts, and
// one answer at a time. While an answer runs it reads on, to hear an
// interruption.
class ConverseReactor final
    : public BidiCall<v1::ClientEvent, v1::ServerEvent> {
 public:
  ConverseReactor(const grpc::CallbackServerContext& call,
                  const ServiceContext& context);

 private:
  absl::Status Open(v1::ClientEvent* request) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Begin(std::shared_ptr<SessionHold> hold) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Take(v1::ClientEvent* request) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status HandOn() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool Fill(v1::ServerEvent* event) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Close() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CountCancel() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Of the whole call nothing is counted, but of its answers.
  void CountEnd(absl::Duration /*elapsed*/) override {}

  absl::Status Ask(const v1::ClientEvent::Ask& ask)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndAnswer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  AppendOptions options_ ABSL_GUARDED_BY(mu_);  // with the session's hold
  v1::GenerateRequest defaults_ ABSL_GUARDED_BY(mu_);
  AppendFeed input_ ABSL_GUARDED_BY(mu_);
  AnswerFeed answer_ ABSL_GUARDED_BY(mu_);
  absl::Duration asked_ ABSL_GUARDED_BY(mu_);  // on the monotonic clock
  bool opened_due_ ABSL_GUARDED_BY(mu_) = false;
  bool last_ack_due_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_CONVERSE_REACTOR_H_
