// SPDX-License-Identifier: Apache-2.0
#include "client/client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/retries.h"
#include "client/status.h"
#include "client/stubs.h"
#include "google/protobuf/empty.pb.h"

namespace mneme::client {
namespace {

// The longest time between two dials of a server that is not there.
constexpr absl::Duration kLongestRedial = absl::Milliseconds(500);

// A random UUID.
std::string NewRequestId() {
  absl::BitGen random;
  const auto high = absl::Uniform<uint64_t>(random);
  const auto low = absl::Uniform<uint64_t>(random);
  return absl::StrFormat(
      "%08x-%04x-4%03x-%04x-%012x", high >> 32, (high >> 16) & 0xffff,
      high & 0xfff, 0x8000 | ((low >> 48) & 0x3fff), low & 0xffff'ffff'ffff);
}

// The request, with an id that makes it safe to send again.
template <typename Request>
Request WithRequestId(const Request& request) {
  Request copy = request;
  if (copy.request_id().empty()) copy.set_request_id(NewRequestId());
  return copy;
}

// Makes one unary call, again and again as the options say. `method` is a
// stub's, e.g. &v1::Models::Stub::GetModel.
template <typename Response, typename Stub, typename Request, typename Method>
absl::StatusOr<Response> Call(ActiveCalls* calls, const ClientOptions& options,
                              Stub* stub, Method method,
                              const Request& request) {
  const absl::Time deadline = absl::Now() + options.metadata_timeout;
  Retries retries(calls, options, deadline);
  while (true) {
    ActiveCall call(calls);
    call.context().set_deadline(absl::ToChronoTime(deadline));
    Response response;
    const absl::Status status =
        ToAbslStatus((stub->*method)(&call.context(), request, &response));
    if (status.ok()) return response;
    if (!retries.Wait(status)) return status;
  }
}

// Gives each message of `stream` to `on_message`, whose error ends the call.
template <typename Message, typename Reader, typename OnMessage>
absl::Status ReadAll(ActiveCall* call, Reader* stream, OnMessage on_message) {
  absl::Status wanted = absl::OkStatus();
  Message message;
  while (stream->Read(&message)) {
    wanted = on_message(message);
    if (!wanted.ok()) {
      call->context().TryCancel();
      break;
    }
  }
  // Finish wants the stream read to its end.
  while (stream->Read(&message)) {
  }
  const grpc::Status status = stream->Finish();
  return wanted.ok() ? ToAbslStatus(status) : wanted;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(
    const std::string& address, const ClientOptions& options) {
  if (address.empty()) {
    return absl::InvalidArgumentError(
        "address is empty, wanted host:port or unix:path");
  }
  if (!absl::StartsWith(address, "unix:")) {
    // gRPC takes a port modulo 65536.
    const size_t colon = address.rfind(':');
    int port = 0;
    if (colon == std::string::npos || colon == 0 ||
        !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 1 ||
        port > 65535) {
      return absl::InvalidArgumentError(
          absl::StrCat("address: found \"", address,
                       "\", wanted host:port with a port of 1 to 65535, or "
                       "unix:path"));
    }
  }
  grpc::ChannelArguments arguments;
  // A server that vanished without a word is noticed within 40 seconds.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // A lost server is dialled again soon, not after gRPC's own waits of a second
  // to two minutes.
  const auto milliseconds = [](absl::Duration duration) {
    return static_cast<int>(
        absl::ToInt64Milliseconds(std::min(duration, kLongestRedial)));
  };
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
                   milliseconds(options.first_backoff));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS,
                   milliseconds(options.longest_backoff));
  // Two clients are two connections. Retries are this library's.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetUserAgentPrefix("mneme-client");
  auto stubs = std::make_unique<Stubs>(grpc::CreateCustomChannel(
      address, grpc::InsecureChannelCredentials(), arguments));
  return std::unique_ptr<Client>(new Client(std::move(stubs), options));
}

Client::Client(std::unique_ptr<Stubs> stubs, const ClientOptions& options)
    : options_(options), stubs_(std::move(stubs)) {}

Client::~Client() = default;

void Client::CancelRunning() { stubs_->calls.CancelRunning(); }

void Client::CancelAll() { stubs_->calls.CancelAll(); }

absl::StatusOr<v1::Session> Client::CreateSession(
    const v1::CreateSessionRequest& request) {
  return Call<v1::Session>(&stubs_->calls, options_, stubs_->sessions.get(),
                           &v1::Sessions::Stub::CreateSession,
                           WithRequestId(request));
}

absl::StatusOr<v1::Session> Client::GetSession(
    const v1::GetSessionRequest& request) {
  return Call<v1::Session>(&stubs_->calls, options_, stubs_->sessions.get(),
                           &v1::Sessions::Stub::GetSession, request);
}

absl::StatusOr<v1::ListSessionsResponse> Client::ListSessions(
    const v1::ListSessionsRequest& request) {
  return Call<v1::ListSessionsResponse>(
      &stubs_->calls, options_, stubs_->sessions.get(),
      &v1::Sessions::Stub::ListSessions, request);
}

absl::Status Client::DeleteSession(const v1::DeleteSessionRequest& request) {
  return Call<google::protobuf::Empty>(
             &stubs_->calls, options_, stubs_->sessions.get(),
             &v1::Sessions::Stub::DeleteSession, WithRequestId(request))
      .status();
}

absl::StatusOr<v1::Session> Client::UpdateSession(
    const v1::UpdateSessionRequest& request) {
  return Call<v1::Session>(&stubs_->calls, options_, stubs_->sessions.get(),
                           &v1::Sessions::Stub::UpdateSession,
                           WithRequestId(request));
}

absl::StatusOr<v1::Session> Client::ResetSession(
    const v1::ResetSessionRequest& request) {
  return Call<v1::Session>(&stubs_->calls, options_, stubs_->sessions.get(),
                           &v1::Sessions::Stub::ResetSession,
                           WithRequestId(request));
}

absl::StatusOr<v1::Session> Client::ForkSession(
    const v1::ForkSessionRequest& request) {
  return Call<v1::Session>(&stubs_->calls, options_, stubs_->sessions.get(),
                           &v1::Sessions::Stub::ForkSession,
                           WithRequestId(request));
}

absl::StatusOr<v1::Session> Client::RollbackSession(
    const v1::RollbackSessionRequest& request) {
  return Call<v1::Session>(&stubs_->calls, options_, stubs_->sessions.get(),
                           &v1::Sessions::Stub::RollbackSession,
                           WithRequestId(request));
}

absl::StatusOr<v1::VerifySessionResponse> Client::VerifySession(
    const v1::VerifySessionRequest& request) {
  return Call<v1::VerifySessionResponse>(
      &stubs_->calls, options_, stubs_->sessions.get(),
      &v1::Sessions::Stub::VerifySession, request);
}

absl::StatusOr<v1::Snapshot> Client::CreateSnapshot(
    const v1::CreateSnapshotRequest& request) {
  return Call<v1::Snapshot>(&stubs_->calls, options_, stubs_->sessions.get(),
                            &v1::Sessions::Stub::CreateSnapshot,
                            WithRequestId(request));
}

absl::StatusOr<v1::ListSnapshotsResponse> Client::ListSnapshots(
    const v1::ListSnapshotsRequest& request) {
  return Call<v1::ListSnapshotsResponse>(
      &stubs_->calls, options_, stubs_->sessions.get(),
      &v1::Sessions::Stub::ListSnapshots, request);
}

absl::Status Client::DeleteSnapshot(const v1::DeleteSnapshotRequest& request) {
  return Call<google::protobuf::Empty>(
             &stubs_->calls, options_, stubs_->sessions.get(),
             &v1::Sessions::Stub::DeleteSnapshot, WithRequestId(request))
      .status();
}

absl::StatusOr<int64_t> Client::ExportSession(
    const v1::ExportSessionRequest& request,
    const std::function<absl::Status(const std::string& chunk)>& on_chunk) {
  ActiveCall call(&stubs_->calls);
  const auto stream = stubs_->sessions->ExportSession(&call.context(), request);
  int64_t total = 0;
  int64_t given = 0;
  absl::Status status =
      ReadAll<v1::ExportSessionResponse>(&call, stream.get(), [&](auto& piece) {
        if (piece.total_bytes() > 0) total = piece.total_bytes();
        given += static_cast<int64_t>(piece.chunk().size());
        return on_chunk(piece.chunk());
      });
  if (!status.ok()) return status;
  if (given != total) {
    return absl::DataLossError(
        absl::StrCat("the file has ", total, " bytes, of which came ", given));
  }
  return total;
}

absl::StatusOr<v1::Session> Client::ImportSession(
    const v1::ImportSessionRequest::Open& open, const TextSource& source) {
  constexpr int64_t kChunkBytes = 256 << 10;
  ActiveCall call(&stubs_->calls);
  v1::Session session;
  const auto stream =
      stubs_->sessions->ImportSession(&call.context(), &session);
  v1::ImportSessionRequest request;
  *request.mutable_open() = WithRequestId(open);
  absl::Status read = absl::OkStatus();
  // A write that fails has its reason in the final status.
  while (stream->Write(request)) {
    absl::StatusOr<std::string> chunk = source(kChunkBytes);
    read = chunk.status();
    if (!read.ok()) call.context().TryCancel();
    if (!read.ok() || chunk->empty()) break;
    request.set_chunk(*std::move(chunk));
  }
  stream->WritesDone();
  const absl::Status status = ToAbslStatus(stream->Finish());
  if (!read.ok()) return read;
  if (!status.ok()) return status;
  return session;
}

absl::Status Client::WatchSession(
    const v1::WatchSessionRequest& request,
    const std::function<absl::Status(const v1::SessionEvent&)>& on_event) {
  ActiveCall call(&stubs_->calls);
  const auto stream = stubs_->sessions->WatchSession(&call.context(), request);
  return ReadAll<v1::SessionEvent>(&call, stream.get(), on_event);
}

absl::StatusOr<v1::CommitSegmentResponse> Client::CommitSegment(
    const v1::CommitSegmentRequest& request) {
  return Call<v1::CommitSegmentResponse>(
      &stubs_->calls, options_, stubs_->memory.get(),
      &v1::Memory::Stub::CommitSegment, WithRequestId(request));
}

absl::StatusOr<v1::CountTokensResponse> Client::CountTokens(
    const v1::CountTokensRequest& request) {
  return Call<v1::CountTokensResponse>(&stubs_->calls, options_,
                                       stubs_->memory.get(),
                                       &v1::Memory::Stub::CountTokens, request);
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(
    const v1::TokenizeRequest& request) {
  return Call<v1::TokenizeResponse>(&stubs_->calls, options_,
                                    stubs_->memory.get(),
                                    &v1::Memory::Stub::Tokenize, request);
}

absl::StatusOr<v1::DetokenizeResponse> Client::Detokenize(
    const v1::DetokenizeRequest& request) {
  return Call<v1::DetokenizeResponse>(&stubs_->calls, options_,
                                      stubs_->memory.get(),
                                      &v1::Memory::Stub::Detokenize, request);
}

absl::StatusOr<grpc::health::v1::HealthCheckResponse> Client::CheckHealth(
    const std::string& service) {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  return Call<grpc::health::v1::HealthCheckResponse>(
      &stubs_->calls, options_, stubs_->health.get(),
      &grpc::health::v1::Health::Stub::Check, request);
}

absl::StatusOr<v1::Model> Client::GetModel(const v1::GetModelRequest& request) {
  return Call<v1::Model>(&stubs_->calls, options_, stubs_->models.get(),
                         &v1::Models::Stub::GetModel, request);
}

absl::StatusOr<v1::ListModelsResponse> Client::ListModels(
    const v1::ListModelsRequest& request) {
  return Call<v1::ListModelsResponse>(&stubs_->calls, options_,
                                      stubs_->models.get(),
                                      &v1::Models::Stub::ListModels, request);
}

absl::StatusOr<v1::Operation> Client::LoadModel(
    const v1::LoadModelRequest& request) {
  return Call<v1::Operation>(&stubs_->calls, options_, stubs_->models.get(),
                             &v1::Models::Stub::LoadModel,
                             WithRequestId(request));
}

absl::StatusOr<v1::Model> Client::UnloadModel(
    const v1::UnloadModelRequest& request) {
  return Call<v1::Model>(&stubs_->calls, options_, stubs_->models.get(),
                         &v1::Models::Stub::UnloadModel,
                         WithRequestId(request));
}

absl::StatusOr<v1::Operation> Client::GetOperation(
    const v1::GetOperationRequest& request) {
  ClientOptions longer = options_;
  longer.metadata_timeout += absl::Seconds(request.wait().seconds()) +
                             absl::Nanoseconds(request.wait().nanos());
  return Call<v1::Operation>(&stubs_->calls, longer, stubs_->operations.get(),
                             &v1::Operations::Stub::GetOperation, request);
}

absl::StatusOr<v1::GenerateResponse::Finished> Client::Generate(
    const v1::GenerateRequest& request,
    const std::function<absl::Status(const v1::GenerateResponse&)>&
        on_response) {
  ActiveCall call(&stubs_->calls);
  const auto stream = stubs_->memory->Generate(&call.context(), request);
  std::optional<v1::GenerateResponse::Finished> finished;
  const absl::Status status = ReadAll<v1::GenerateResponse>(
      &call, stream.get(), [&](const v1::GenerateResponse& response) {
        if (response.has_finished()) finished = response.finished();
        return on_response(response);
      });
  if (!status.ok()) return status;
  if (!finished.has_value()) {
    return absl::InternalError("the stream ended before the answer did");
  }
  return *finished;
}

}  // namespace mneme::client
