// SPDX-License-Identifier: Apache-2.0
//
// The ends of calls that need no reactor of their own.
#ifndef MNEME_SERVER_ANSWER_H_
#define MNEME_SERVER_ANSWER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/late_answer.h"
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

}  // namespace mneme::server

#endif  // MNEME_SERVER_ANSWER_H_
