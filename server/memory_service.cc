// SPDX-License-Identifier: Apache-2.0
#include "server/memory_service.h"

#include "server/answer.h"
#include "server/append_reactor.h"
#include "server/generate_reactor.h"
#include "server/score_reactor.h"

namespace mneme::server {

grpc::ServerBidiReactor<v1::AppendRequest, v1::AppendResponse>*
MemoryService::Append(grpc::CallbackServerContext* /*call*/) {
  return new AppendReactor(context_);
}

grpc::ServerWriteReactor<v1::GenerateResponse>* MemoryService::Generate(
    grpc::CallbackServerContext* /*call*/, const v1::GenerateRequest* request) {
  return new GenerateReactor(context_, *request);
}

grpc::ServerBidiReactor<v1::ScoreRequest, v1::ScoreResponse>*
MemoryService::Score(grpc::CallbackServerContext* /*call*/) {
  return new ScoreReactor(context_);
}

grpc::ServerBidiReactor<v1::ClientEvent, v1::ServerEvent>*
MemoryService::Converse(grpc::CallbackServerContext* /*call*/) {
  return RefuseStream<
      grpc::ServerBidiReactor<v1::ClientEvent, v1::ServerEvent>>(
      context_, "mneme.v1.Memory/Converse");
}

grpc::ServerUnaryReactor* MemoryService::CommitSegment(
    grpc::CallbackServerContext* call,
    const v1::CommitSegmentRequest* /*request*/,
    v1::CommitSegmentResponse* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Memory/CommitSegment");
}

grpc::ServerUnaryReactor* MemoryService::CountTokens(
    grpc::CallbackServerContext* call,
    const v1::CountTokensRequest* /*request*/,
    v1::CountTokensResponse* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Memory/CountTokens");
}

grpc::ServerUnaryReactor* MemoryService::Tokenize(
    grpc::CallbackServerContext* call, const v1::TokenizeRequest* /*request*/,
    v1::TokenizeResponse* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Memory/Tokenize");
}

grpc::ServerUnaryReactor* MemoryService::Detokenize(
    grpc::CallbackServerContext* call, const v1::DetokenizeRequest* /*request*/,
    v1::DetokenizeResponse* /*reply*/) {
  return RefuseUnary(call, context_, "mneme.v1.Memory/Detokenize");
}

}  // namespace mneme::server
