// SPDX-License-Identifier: Apache-2.0
#include "server/export_reactor.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "server/names.h"
#include "server/status.h"

namespace mneme::server {
namespace {

constexpr int64_t kChunkBytes = 256 << 10;

}  // namespace

ExportReactor::ExportReactor(const ServiceContext& context,
                             const v1::ExportSessionRequest& request)
    : WriteCall(context, "mneme.v1.Sessions/ExportSession") {
  Start([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return Begin(request); });
}

absl::Status ExportReactor::Begin(const v1::ExportSessionRequest& request) {
  MNEME_ASSIGN_OR_RETURN(const std::string id,
                         ParseSessionName(request.name(), "name"));
  std::string snapshot;
  if (!request.snapshot().empty()) {
    MNEME_ASSIGN_OR_RETURN(snapshot,
                           ParseSnapshotOf(id, request.snapshot(), "snapshot"));
  }
  resource_ = snapshot.empty() ? request.name() : request.snapshot();
  context_.engine->ExportSession(id, snapshot, made_.Await(this));
  return absl::OkStatus();
}

bool ExportReactor::Fill(v1::ExportSessionResponse* response) {
  if (made_.pending()) {
    auto made = made_.Take();
    if (!made.has_value()) {
      if (pump()->draining()) EndOnError(DrainingError());
      return false;
    }
    if (!made->ok()) {
      EndOnError(made->status());
      return false;
    }
    file_ = **std::move(made);
    response->set_total_bytes(file_->total_bytes());
  }
  const std::string_view chunk = file_->Read(offset_, kChunkBytes);
  response->set_chunk(chunk.data(), chunk.size());
  offset_ += static_cast<int64_t>(chunk.size());
  if (offset_ >= file_->total_bytes()) End(grpc::Status::OK);
  return true;
}

void ExportReactor::Close() {
  made_.GiveUp();
  file_.reset();
}

}  // namespace mneme::server
