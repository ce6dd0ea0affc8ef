// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/status.h"
#include "client/stubs.h"

namespace mneme::client {
namespace {

// Puts the next payload, at most `max_bytes`, into the request. False at the
// end.
using PieceSource = std::function<absl::StatusOr<bool>(
    int64_t max_bytes, v1::ScoreRequest* request)>;

// Writes on this thread, reads on another; the stream's own window keeps the
// two in step.
absl::StatusOr<ScoreResult> Score(v1::Memory::Stub* memory, ActiveCalls* calls,
                                  const v1::ScoreRequest::Open& open,
                                  const PieceSource& source,
                                  const ScoreOptions& options) {
  if (options.message_bytes < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "message_bytes is ", options.message_bytes, ", wanted at least 1"));
  }
  ActiveCall call(calls);
  const auto stream = memory->Score(&call.context());
  v1::ScoreRequest request;
  *request.mutable_open() = open;
  bool writable = stream->Write(request);

  ScoreResult result;
  bool finished = false;
  std::thread reader([&] {
    v1::ScoreResponse response;
    while (stream->Read(&response)) {
      if (response.has_totals()) result.totals = response.totals();
      if (response.has_finished()) {
        result.finished = response.finished();
        finished = true;
      }
      if (options.on_response) options.on_response(response);
    }
  });

  absl::Status sent = absl::OkStatus();
  while (writable) {
    request.Clear();
    const absl::StatusOr<bool> more = source(options.message_bytes, &request);
    if (!more.ok()) {
      // Half a text has no score worth its price, or its commit.
      call.context().TryCancel();
      sent = more.status();
    }
    if (!more.ok() || !*more) break;
    writable = stream->Write(request);
  }
  stream->WritesDone();
  reader.join();
  const grpc::Status status = stream->Finish();
  if (!sent.ok()) return sent;
  if (!status.ok()) return ToAbslStatus(status);
  if (!finished) {
    return absl::InternalError("the stream ended before the score did");
  }
  return result;
}

}  // namespace

absl::StatusOr<ScoreResult> Client::ScoreText(
    const v1::ScoreRequest::Open& open, const TextSource& source,
    const ScoreOptions& options) {
  return Score(
      stubs_->memory.get(), &stubs_->calls, open,
      [&source](int64_t max_bytes,
                v1::ScoreRequest* request) -> absl::StatusOr<bool> {
        absl::StatusOr<std::string> text = source(max_bytes);
        if (!text.ok()) return text.status();
        const bool more = !text->empty();
        request->set_text(*std::move(text));
        return more;
      },
      options);
}

absl::StatusOr<ScoreResult> Client::ScoreTokens(
    const v1::ScoreRequest::Open& open, const TokenSource& source,
    const ScoreOptions& options) {
  return Score(
      stubs_->memory.get(), &stubs_->calls, open,
      [&source](int64_t max_bytes,
                v1::ScoreRequest* request) -> absl::StatusOr<bool> {
        const auto max_tokens = std::max<int64_t>(
            1, max_bytes / static_cast<int64_t>(sizeof(int32_t)));
        const absl::StatusOr<std::vector<int32_t>> ids = source(max_tokens);
        if (!ids.ok()) return ids.status();
        request->mutable_tokens()->mutable_ids()->Add(ids->begin(), ids->end());
        return !ids->empty();
      },
      options);
}

}  // namespace mneme::client
