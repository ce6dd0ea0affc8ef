// SPDX-License-Identifier: Apache-2.0
#include "client/client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <utility>

#include "absl/time/clock.h"
#include "client/status.h"
#include "client/stubs.h"
#include "google/protobuf/empty.pb.h"

namespace mneme::client {
namespace {

// Makes one unary call. `method` is a stub's, e.g. &v1::Models::Stub::GetModel.
template <typename Response, typename Stub, typename Request, typename Method>
absl::StatusOr<Response> Call(ActiveCalls* calls, absl::Duration timeout,
                              Stub* stub, Method method,
                              const Request& request) {
  ActiveCall call(calls);
  call.context().set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  Response response;
  const grpc::Status status =
      (stub->*method)(&call.context(), request, &response);
  if (!status.ok()) return ToAbslStatus(status);
  return response;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(
    const std::string& address, const ClientOptions& options) {
  if (address.empty()) {
    return absl::InvalidArgumentError(
        "address is empty, wanted host:port or unix:path");
  }
  grpc::ChannelArguments arguments;
  // A server that vanished without a word is noticed within 40 seconds.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetUserAgentPrefix("mneme-client");
  auto stubs = std::make_unique<Stubs>(grpc::CreateCustomChannel(
      address, grpc::InsecureChannelCredentials(), arguments));
  return std::unique_ptr<Client>(new Client(std::move(stubs), options));
}

Client::Client(std::unique_ptr<Stubs> stubs, const ClientOptions& options)
    : options_(options), stubs_(std::move(stubs)) {}

Client::~Client() = default;

void Client::CancelAll() { stubs_->calls.CancelAll(); }

absl::StatusOr<v1::Session> Client::CreateSession(
    const v1::CreateSessionRequest& request) {
  return Call<v1::Session>(&stubs_->calls, options_.metadata_timeout,
                           stubs_->sessions.get(),
                           &v1::Sessions::Stub::CreateSession, request);
}

absl::StatusOr<v1::Session> Client::GetSession(
    const v1::GetSessionRequest& request) {
  return Call<v1::Session>(&stubs_->calls, options_.metadata_timeout,
                           stubs_->sessions.get(),
                           &v1::Sessions::Stub::GetSession, request);
}

absl::StatusOr<v1::ListSessionsResponse> Client::ListSessions(
    const v1::ListSessionsRequest& request) {
  return Call<v1::ListSessionsResponse>(
      &stubs_->calls, options_.metadata_timeout, stubs_->sessions.get(),
      &v1::Sessions::Stub::ListSessions, request);
}

absl::Status Client::DeleteSession(const v1::DeleteSessionRequest& request) {
  return Call<google::protobuf::Empty>(
             &stubs_->calls, options_.metadata_timeout, stubs_->sessions.get(),
             &v1::Sessions::Stub::DeleteSession, request)
      .status();
}

absl::StatusOr<v1::Model> Client::GetModel(const v1::GetModelRequest& request) {
  return Call<v1::Model>(&stubs_->calls, options_.metadata_timeout,
                         stubs_->models.get(), &v1::Models::Stub::GetModel,
                         request);
}

absl::StatusOr<v1::ListModelsResponse> Client::ListModels(
    const v1::ListModelsRequest& request) {
  return Call<v1::ListModelsResponse>(&stubs_->calls, options_.metadata_timeout,
                                      stubs_->models.get(),
                                      &v1::Models::Stub::ListModels, request);
}

absl::StatusOr<v1::GenerateResponse::Finished> Client::Generate(
    const v1::GenerateRequest& request,
    const std::function<absl::Status(const v1::GenerateResponse&)>&
        on_response) {
  ActiveCall call(&stubs_->calls);
  const auto stream = stubs_->memory->Generate(&call.context(), request);
  std::optional<v1::GenerateResponse::Finished> finished;
  absl::Status wanted = absl::OkStatus();
  v1::GenerateResponse response;
  while (stream->Read(&response)) {
    if (response.has_finished()) finished = response.finished();
    wanted = on_response(response);
    if (!wanted.ok()) {
      call.context().TryCancel();
      break;
    }
  }
  // Finish wants the stream read to its end.
  while (stream->Read(&response)) {
  }
  const grpc::Status status = stream->Finish();
  if (!wanted.ok()) return wanted;
  if (!status.ok()) return ToAbslStatus(status);
  if (!finished.has_value()) {
    return absl::InternalError("the stream ended before the answer did");
  }
  return *finished;
}

}  // namespace mneme::client
