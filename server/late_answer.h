// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_LATE_ANSWER_H_
#define MNEME_SERVER_LATE_ANSWER_H_

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/service_context.h"
#include "server/status.h"

namespace mneme::server {

// The answer of a unary call that something else gives later, on any thread.
// It is given once: by End, or by a timer. What comes after that is dropped,
// which is why the work fills `reply`, its own, and not gRPC's, which goes
// with the call.
template <typename Reply>
class LateAnswer : public std::enable_shared_from_this<LateAnswer<Reply>> {
 public:
  // `resource`: as in ToGrpcStatus.
  static std::shared_ptr<LateAnswer> Make(grpc::CallbackServerContext* call,
                                          const ServiceContext& context,
                                          const char* method,
                                          const std::string& resource,
                                          Reply* reply) {
    return std::shared_ptr<LateAnswer>(
        new LateAnswer(call, context, method, resource, reply));
  }

  // Where the client set no deadline, the call ends with DEADLINE_EXCEEDED
  // after the default one. (One with a deadline is gRPC's to end.)
  void ApplyDefaultDeadline() {
    if (call_->deadline() != std::chrono::system_clock::time_point::max()) {
      return;
    }
    After(default_deadline_, [this] {
      End(absl::DeadlineExceededError(
          absl::StrCat("no answer in the default deadline of ",
                       absl::FormatDuration(default_deadline_),
                       "; set a longer one to wait longer")));
    });
  }

  // What the work fills, alone, before it ends the call.
  Reply* reply() { return &own_; }
  grpc::ServerUnaryReactor* reactor() const { return reactor_; }

  void End(const absl::Status& outcome) {
    if (!Claim()) return;
    if (outcome.ok()) *reply_ = std::move(own_);
    Finish(outcome);
  }
  // With a reply that is not the work's, from whoever comes first.
  void End(Reply reply) {
    if (!Claim()) return;
    *reply_ = std::move(reply);
    Finish(absl::OkStatus());
  }

  // Calls `work` after `delay`, unless the answer was given before. The one
  // timer of a call: instead of a default deadline.
  void After(absl::Duration delay, std::function<void()> work) {
    // gRPC keeps the function for as long as the alarm lives, which is part of
    // this object: so the call, which comes once in any case, takes `self` out.
    alarm_.Set(
        std::chrono::system_clock::now() + absl::ToChronoMilliseconds(delay),
        [self = this->shared_from_this(),
         work = std::move(work)](bool expired) mutable {
          const auto alive = std::move(self);
          if (expired) work();
        });
  }

 private:
  // True for the first who ends the call.
  bool Claim() {
    {
      absl::MutexLock lock(&mu_);
      if (std::exchange(ended_, true)) return false;
    }
    alarm_.Cancel();
    return true;
  }
  void Finish(const absl::Status& outcome) {
    const grpc::Status status = ToGrpcStatus(outcome, resource_);
    rpc_.End(status.error_code());
    reactor_->Finish(status);
  }

  LateAnswer(grpc::CallbackServerContext* call, const ServiceContext& context,
             const char* method, std::string resource, Reply* reply)
      : call_(call),
        reactor_(call->DefaultReactor()),
        reply_(reply),
        resource_(std::move(resource)),
        default_deadline_(context.default_deadline),
        rpc_(context.metrics, context.clock, method) {}

  grpc::CallbackServerContext* const call_;  // alive until the answer
  grpc::ServerUnaryReactor* const reactor_;
  Reply* const reply_;
  const std::string resource_;
  const absl::Duration default_deadline_;
  CountedRpc rpc_;
  Reply own_;
  grpc::Alarm alarm_;
  absl::Mutex mu_;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_LATE_ANSWER_H_
