// SPDX-License-Identifier: Apache-2.0
//
// The ends of calls that need no reactor of their own.
#ifndef MNEME_SERVER_ANSWER_H_
#define MNEME_SERVER_ANSWER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/late_answer.h"
#include "server/request_id_table.h"
#include "server/service_context.h"
#include "server/status.h"

namespace mneme::server {

// Does a unary call at once: `work()` fills the reply and returns a status;
// `resource` is what the call is about, as in ToGrpcStatus.
template <typename Work>
grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* call,
                                 const ServiceContext& context,
                                 const char* method,
                                 const std::string& resource, Work work) {
  CountedRpc rpc(context.metrics, context.clock, method);
  const grpc::Status status = ToGrpcStatus(work(), resource);
  rpc.End(status.error_code());
  grpc::ServerUnaryReactor* const reactor = call->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

// Does a unary call once for each request id, under the default deadline.
// `work(reply, done)` fills `reply` and calls `done` with a status, at once or
// later from another thread.
template <typename Request, typename Reply, typename Work>
grpc::ServerUnaryReactor* AnswerOnce(grpc::CallbackServerContext* call,
                                     const ServiceContext& context,
                                     const char* method,
                                     const std::string& resource,
                                     const Request& request, Reply* reply,
                                     Work work) {
  auto answer = LateAnswer<Reply>::Make(call, context, method, resource, reply);
  grpc::ServerUnaryReactor* const reactor = answer->reactor();
  answer->ApplyDefaultDeadline();
  context.request_ids->Once(
      request.request_id(), method, request, answer->reply(),
      [&](const RequestIdTable::Done& done) { work(answer->reply(), done); },
      [answer](const absl::Status& outcome) { answer->End(outcome); });
  return reactor;
}

// The same of a call that may be over when the work is done: `work` is given
// what to call with the answer, and `tell` is called with that, or with the
// answer of another call.
template <typename Request, typename Reply>
void ShareOnce(RequestIdTable& table, const char* method,
               const Request& request,
               absl::FunctionRef<void(Engine::Done<Reply>)> work,
               Engine::Done<Reply> tell) {
  // Filled by whoever does the work.
  const auto reply = std::make_shared<Reply>();
  table.Once(
      request.request_id(), method, request, reply.get(),
      [&](const RequestIdTable::Done& done) {
        work([reply, done](absl::StatusOr<Reply> answer) {
          if (answer.ok()) *reply = *std::move(answer);
          done(answer.status());
        });
      },
      [reply, tell = std::move(tell)](const absl::Status& outcome) {
        if (outcome.ok()) {
          tell(*reply);
        } else {
          tell(outcome);
        }
      });
}

}  // namespace mneme::server

#endif  // MNEME_SERVER_ANSWER_H_
