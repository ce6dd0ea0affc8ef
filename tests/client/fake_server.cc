// SPDX-License-Identifier: Apache-2.0
#include "tests/client/fake_server.h"

#include <grpcpp/server_builder.h>

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "client/crc32c.h"
#include "client/history_digest.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "mneme/v1/common.pb.h"

namespace mneme::client {
namespace {

int64_t Units(const v1::AppendRequest::Segment& segment) {
  return segment.has_text() ? static_cast<int64_t>(segment.text().size())
                            : segment.tokens().ids_size();
}

uint32_t Checksum(const v1::AppendRequest::Segment& segment) {
  if (segment.has_text()) return Crc32c(segment.text());
  return Crc32c(std::vector<int32_t>(segment.tokens().ids().begin(),
                                     segment.tokens().ids().end()));
}

}  // namespace

grpc::Status MakeError(
    grpc::StatusCode code, const std::string& message, v1::ErrorReason reason,
    const std::vector<std::pair<std::string, std::string>>& metadata,
    int retry_seconds) {
  google::rpc::ErrorInfo info;
  info.set_reason(v1::ErrorReason_Name(reason));
  info.set_domain("mneme");
  for (const auto& [key, value] : metadata) {
    (*info.mutable_metadata())[key] = value;
  }
  google::rpc::Status details;
  details.set_code(code);
  details.set_message(message);
  details.add_details()->PackFrom(info);
  if (retry_seconds > 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(retry_seconds);
    details.add_details()->PackFrom(retry);
  }
  return grpc::Status(code, message, details.SerializeAsString());
}

FakeServer::FakeServer(const FakeOptions& options)
    : options_(options),
      next_offset_(options.next_offset),
      acknowledged_(options.next_offset) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.address, grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(static_cast<v1::Memory::Service*>(this));
  builder.RegisterService(static_cast<v1::Sessions::Service*>(this));
  builder.RegisterService(static_cast<v1::Models::Service*>(this));
  server_ = builder.BuildAndStart();
  address_ =
      absl::StrReplaceAll(options.address, {{":0", absl::StrCat(":", port)}});
}

FakeServer::~FakeServer() {
  server_->Shutdown(absl::ToChronoTime(absl::Now()));
}

std::vector<v1::AppendRequest::Segment> FakeServer::segments() {
  absl::MutexLock lock(&mutex_);
  return segments_;
}

std::string FakeServer::history() {
  absl::MutexLock lock(&mutex_);
  return history_;
}

std::vector<v1::AppendRequest::Open> FakeServer::opens() {
  absl::MutexLock lock(&mutex_);
  return opens_;
}

std::vector<std::string> FakeServer::prompts() {
  absl::MutexLock lock(&mutex_);
  return prompts_;
}

std::vector<std::string> FakeServer::request_ids() {
  absl::MutexLock lock(&mutex_);
  return request_ids_;
}

grpc::Status FakeServer::NextFailure() {
  absl::MutexLock lock(&mutex_);
  if (failures_ == options_.failures.size()) return grpc::Status::OK;
  return options_.failures[failures_++];
}

absl::optional<FakeOptions::Break> FakeServer::NextBreak() {
  absl::MutexLock lock(&mutex_);
  if (streams_ == options_.breaks.size()) return absl::nullopt;
  return options_.breaks[streams_++];
}

int64_t FakeServer::acknowledged() {
  absl::MutexLock lock(&mutex_);
  return acknowledged_;
}

grpc::Status FakeServer::Take(const v1::AppendRequest::Segment& segment) {
  absl::MutexLock lock(&mutex_);
  if (segment.offset() > next_offset_) {
    return MakeError(grpc::StatusCode::OUT_OF_RANGE, "segment leaves a gap",
                     v1::SEGMENT_GAP,
                     {{"expected_offset", absl::StrCat(next_offset_)},
                      {"offset", absl::StrCat(segment.offset())}});
  }
  if (segment.has_crc32c() && segment.crc32c() != Checksum(segment)) {
    return MakeError(grpc::StatusCode::INVALID_ARGUMENT, "segment is damaged",
                     v1::CRC_MISMATCH);
  }
  const int64_t known =
      std::min(next_offset_ - segment.offset(), Units(segment));
  segments_.push_back(segment);
  if (segment.has_text()) {
    const auto at =
        static_cast<size_t>(segment.offset() - options_.next_offset);
    if (segment.offset() >= options_.next_offset && known > 0 &&
        history_.compare(at, known, segment.text(), 0, known) != 0) {
      return MakeError(grpc::StatusCode::FAILED_PRECONDITION, "other bytes",
                       v1::SEGMENT_CONFLICT,
                       {{"offset", absl::StrCat(segment.offset())}});
    }
    history_ += segment.text().substr(static_cast<size_t>(known));
  }
  if (known > 0) duplicate_ = true;
  next_offset_ = std::max(next_offset_, segment.offset() + Units(segment));
  return grpc::Status::OK;
}

v1::AppendResponse FakeServer::MakeAck() {
  absl::MutexLock lock(&mutex_);
  acknowledged_ = next_offset_;
  v1::AppendResponse response;
  v1::AppendResponse::Ack* ack = response.mutable_ack();
  ack->set_absorbed_offset(next_offset_);
  ack->set_position(next_offset_);
  ack->set_verified(true);
  ack->set_duplicate(duplicate_);
  if (options_.durability == v1::Session::FSYNC && !options_.never_durable) {
    ack->set_durable_offset(next_offset_);
  }
  return response;
}

grpc::Status FakeServer::Append(
    grpc::ServerContext* /*context*/,
    grpc::ServerReaderWriter<v1::AppendResponse, v1::AppendRequest>* stream) {
  v1::AppendRequest request;
  if (!stream->Read(&request) || !request.has_open()) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "wanted open");
  }
  {
    absl::MutexLock lock(&mutex_);
    opens_.push_back(request.open());
  }
  const absl::optional<FakeOptions::Break> cut = NextBreak();
  if (cut.has_value() && cut->instead_of_opened) return cut->status;
  v1::AppendResponse response;
  v1::AppendResponse::Opened* opened = response.mutable_opened();
  opened->set_uid("the-uid");
  opened->set_epoch(5);
  opened->set_durability(options_.durability);
  opened->set_unit(options_.unit);
  opened->set_max_inflight_bytes(options_.max_inflight_bytes);
  opened->set_max_segment_bytes(options_.max_segment_bytes);
  {
    absl::MutexLock lock(&mutex_);
    const int64_t absorbed =
        options_.absorbs_late ? acknowledged_ : next_offset_;
    opened->set_absorbed_offset(absorbed);
    opened->set_durable_offset(options_.durability == v1::Session::FSYNC &&
                                       !options_.never_durable
                                   ? next_offset_
                                   : 0);
    opened->set_next_offset(next_offset_);
    opened->set_position(next_offset_);
    if (options_.next_offset == 0 && options_.unit == v1::Session::TEXT) {
      HistoryDigest digest;
      digest.Add(history_.substr(0, static_cast<size_t>(absorbed)));
      opened->set_digest_at_durable(digest.Hex());
    }
  }
  stream->Write(response);
  if (options_.absorbs_late) stream->Write(MakeAck());
  if (options_.extra.message_case() != v1::AppendResponse::MESSAGE_NOT_SET) {
    stream->Write(options_.extra);
    if (options_.extra.has_moved()) return grpc::Status::OK;
  }
  {
    absl::MutexLock lock(&mutex_);
    if (!std::exchange(intruded_, true)) {
      history_ += options_.intrusion;
      next_offset_ += static_cast<int64_t>(options_.intrusion.size());
    }
  }
  int64_t unacknowledged = 0;
  int taken_segments = 0;
  while (stream->Read(&request)) {
    if (!request.has_segment()) continue;
    grpc::Status taken = Take(request.segment());
    if (!taken.ok()) return taken;
    if (cut.has_value() && ++taken_segments == cut->segments) {
      absl::MutexLock lock(&mutex_);
      next_offset_ += static_cast<int64_t>(cut->gain.size()) - cut->lose;
      history_.resize(history_.size() - static_cast<size_t>(cut->lose));
      history_ += cut->gain;
      return cut->status;
    }
    unacknowledged += Units(request.segment());
    if (unacknowledged >= options_.ack_every_units) {
      stream->Write(MakeAck());
      unacknowledged = 0;
    }
  }
  stream->Write(MakeAck());
  return grpc::Status::OK;
}

grpc::Status FakeServer::Generate(
    grpc::ServerContext* context, const v1::GenerateRequest* request,
    grpc::ServerWriter<v1::GenerateResponse>* writer) {
  {
    absl::MutexLock lock(&mutex_);
    prompts_.push_back(request->text());
  }
  if (options_.refuse_generate) {
    return MakeError(grpc::StatusCode::RESOURCE_EXHAUSTED, "full",
                     v1::QUEUE_FULL);
  }
  absl::SleepFor(options_.think);
  v1::GenerateResponse response;
  response.mutable_started()->set_ask_position(7);
  writer->Write(response);
  for (int piece = 0; piece != options_.pieces; ++piece) {
    response.Clear();
    response.set_text(absl::StrCat(request->text(), piece));
    response.add_tokens(piece);
    if (!writer->Write(response) || context->IsCancelled()) {
      if (!cancelled_.HasBeenNotified()) cancelled_.Notify();
      return grpc::Status::CANCELLED;
    }
  }
  response.Clear();
  response.mutable_finished()->set_finish_reason(
      v1::GenerateResponse::Finished::LENGTH);
  response.mutable_finished()->set_position(10);
  writer->Write(response);
  return grpc::Status::OK;
}

grpc::Status FakeServer::Score(
    grpc::ServerContext* /*context*/,
    grpc::ServerReaderWriter<v1::ScoreResponse, v1::ScoreRequest>* stream) {
  v1::ScoreRequest request;
  if (grpc::Status failure = NextFailure(); !failure.ok()) {
    stream->Read(&request);
    stream->Read(&request);
    return failure;
  }
  v1::ScoreResponse response;
  v1::ScoreTotals* totals = response.mutable_totals();
  stream->Read(&request);
  while (stream->Read(&request)) {
    const int64_t units = request.has_text()
                              ? static_cast<int64_t>(request.text().size())
                              : request.tokens().ids_size();
    totals->set_tokens_scored(totals->tokens_scored() + units);
    totals->set_bytes(totals->bytes() + request.text().size());
    totals->set_logprob_sum(-static_cast<double>(totals->tokens_scored()));
    totals->set_bits_per_token(1 / std::log(2.0));
    stream->Write(response);
  }
  response.mutable_finished()->set_next_offset(42);
  stream->Write(response);
  return grpc::Status::OK;
}

grpc::Status FakeServer::GetSession(grpc::ServerContext* /*context*/,
                                    const v1::GetSessionRequest* request,
                                    v1::Session* response) {
  if (request->name() == "sessions/there") {
    response->set_name(request->name());
    return grpc::Status::OK;
  }
  if (request->name() == "sessions/slow") {
    release_.WaitForNotification();
    return grpc::Status::OK;
  }
  return MakeError(grpc::StatusCode::NOT_FOUND,
                   absl::StrCat("no session ", request->name()),
                   v1::SESSION_NOT_FOUND);
}

grpc::Status FakeServer::CreateSession(grpc::ServerContext* /*context*/,
                                       const v1::CreateSessionRequest* request,
                                       v1::Session* response) {
  {
    absl::MutexLock lock(&mutex_);
    request_ids_.push_back(request->request_id());
  }
  response->set_name("sessions/" + request->session_id());
  response->set_model("models/only");
  response->set_unit(options_.unit);
  return NextFailure();
}

grpc::Status FakeServer::DeleteSession(grpc::ServerContext* /*context*/,
                                       const v1::DeleteSessionRequest* request,
                                       google::protobuf::Empty* /*response*/) {
  absl::MutexLock lock(&mutex_);
  request_ids_.push_back(request->request_id());
  return grpc::Status::OK;
}

grpc::Status FakeServer::GetModel(grpc::ServerContext* /*context*/,
                                  const v1::GetModelRequest* request,
                                  v1::Model* response) {
  if (request->name() != "models/only") {
    return MakeError(grpc::StatusCode::NOT_FOUND, "no such model",
                     v1::MODEL_NOT_FOUND);
  }
  response->set_name(request->name());
  response->set_vocab_size(256);
  return grpc::Status::OK;
}

grpc::Status FakeServer::Tokenize(grpc::ServerContext* /*context*/,
                                  const v1::TokenizeRequest* request,
                                  v1::TokenizeResponse* response) {
  for (const char byte : request->text()) {
    response->add_tokens(static_cast<uint8_t>(byte));
    response->add_byte_lengths(1);
  }
  return grpc::Status::OK;
}

}  // namespace mneme::client
