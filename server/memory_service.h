// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_MEMORY_SERVICE_H_
#define MNEME_SERVER_MEMORY_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "mneme/v1/memory.grpc.pb.h"
#include "server/service_context.h"

namespace mneme::server {

// What memory.proto says; each stream is a reactor of its own.
class MemoryService final : public v1::Memory::CallbackService {
 public:
  explicit MemoryService(const ServiceContext& context) : context_(context) {}

  grpc::ServerBidiReactor<v1::AppendRequest, v1::AppendResponse>* Append(
      grpc::CallbackServerContext* call) override;
  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* call,
      const v1::GenerateRequest* request) override;
  grpc::ServerBidiReactor<v1::ScoreRequest, v1::ScoreResponse>* Score(
      grpc::CallbackServerContext* call) override;
  grpc::ServerBidiReactor<v1::ClientEvent, v1::ServerEvent>* Converse(
      grpc::CallbackServerContext* call) override;
  grpc::ServerUnaryReactor* CommitSegment(
      grpc::CallbackServerContext* call,
      const v1::CommitSegmentRequest* request,
      v1::CommitSegmentResponse* reply) override;
  grpc::ServerUnaryReactor* CountTokens(
      grpc::CallbackServerContext* call, const v1::CountTokensRequest* request,
      v1::CountTokensResponse* reply) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* call,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* reply) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* call,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* reply) override;

 private:
  const ServiceContext context_;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_MEMORY_SERVICE_H_
