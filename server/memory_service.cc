// SPDX-License-Identifier: Apache-2.0
#include "server/memory_service.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "server/answer.h"
#include "server/append_reactor.h"
#include "server/converse_reactor.h"
#include "server/convert.h"
#include "server/generate_reactor.h"
#include "server/names.h"
#include "server/request_tag.h"
#include "server/score_reactor.h"

namespace mneme::server {

grpc::ServerBidiReactor<v1::AppendRequest, v1::AppendResponse>*
MemoryService::Append(grpc::CallbackServerContext* call) {
  return new AppendReactor(*call, context_);
}

grpc::ServerWriteReactor<v1::GenerateResponse>* MemoryService::Generate(
    grpc::CallbackServerContext* call, const v1::GenerateRequest* request) {
  return new GenerateReactor(context_, *call, *request);
}

grpc::ServerBidiReactor<v1::ScoreRequest, v1::ScoreResponse>*
MemoryService::Score(grpc::CallbackServerContext* call) {
  return new ScoreReactor(*call, context_);
}

grpc::ServerBidiReactor<v1::ClientEvent, v1::ServerEvent>*
MemoryService::Converse(grpc::CallbackServerContext* call) {
  return new ConverseReactor(*call, context_);
}

grpc::ServerUnaryReactor* MemoryService::CommitSegment(
    grpc::CallbackServerContext* call, const v1::CommitSegmentRequest* request,
    v1::CommitSegmentResponse* reply) {
  static constexpr char kMethod[] = "mneme.v1.Memory/CommitSegment";
  return AnswerOnce(
      call, context_, kMethod, request->session(), *request, reply,
      [&](v1::CommitSegmentResponse* out, const RequestIdTable::Done& done) {
        const absl::StatusOr<std::string> id =
            ParseSessionName(request->session(), "session");
        if (!id.ok()) return done(id.status());
        context_.engine->CommitSegment(
            {.session = *id,
             .uid = request->uid(),
             .request = TagOf<SegmentCommit>(kMethod, *request)},
            [out, done](const absl::StatusOr<SegmentCommit>& commit) {
              if (commit.ok()) *out = ToProto(*commit);
              done(commit.status());
            });
      });
}

grpc::ServerUnaryReactor* MemoryService::CountTokens(
    grpc::CallbackServerContext* call, const v1::CountTokensRequest* request,
    v1::CountTokensResponse* reply) {
  return Answer(call, context_, "mneme.v1.Memory/CountTokens", request->model(),
                [&]() -> absl::Status {
                  MNEME_ASSIGN_OR_RETURN(
                      const std::string model,
                      ParseModelName(request->model(), "model"));
                  MNEME_ASSIGN_OR_RETURN(
                      const std::vector<TextToken> tokens,
                      context_.engine->Tokenize(model, request->text()));
                  reply->set_tokens(static_cast<int64_t>(tokens.size()));
                  return absl::OkStatus();
                });
}

grpc::ServerUnaryReactor* MemoryService::Tokenize(
    grpc::CallbackServerContext* call, const v1::TokenizeRequest* request,
    v1::TokenizeResponse* reply) {
  return Answer(call, context_, "mneme.v1.Memory/Tokenize", request->model(),
                [&]() -> absl::Status {
                  MNEME_ASSIGN_OR_RETURN(
                      const std::string model,
                      ParseModelName(request->model(), "model"));
                  MNEME_ASSIGN_OR_RETURN(const ModelInfo info,
                                         context_.engine->GetModel(model));
                  MNEME_ASSIGN_OR_RETURN(
                      const std::vector<TextToken> tokens,
                      context_.engine->Tokenize(model, request->text()));
                  if (request->add_bos() && info.bos_token.has_value()) {
                    reply->add_tokens(*info.bos_token);
                    reply->add_byte_lengths(0);
                  }
                  for (const TextToken& token : tokens) {
                    reply->add_tokens(token.id);
                    reply->add_byte_lengths(token.bytes);
                  }
                  return absl::OkStatus();
                });
}

grpc::ServerUnaryReactor* MemoryService::Detokenize(
    grpc::CallbackServerContext* call, const v1::DetokenizeRequest* request,
    v1::DetokenizeResponse* reply) {
  return Answer(
      call, context_, "mneme.v1.Memory/Detokenize", request->model(),
      [&]() -> absl::Status {
        MNEME_ASSIGN_OR_RETURN(const std::string model,
                               ParseModelName(request->model(), "model"));
        MNEME_ASSIGN_OR_RETURN(
            *reply->mutable_text(),
            context_.engine->Detokenize(
                model, {request->tokens().begin(), request->tokens().end()}));
        return absl::OkStatus();
      });
}

}  // namespace mneme::server
