// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/retries.h"
#include "client/status.h"
#include "client/stubs.h"

namespace mneme::client {
namespace {

// Puts the next payload, at most `max_bytes`, into the request. False at the
// end.
using PieceSource = std::function<absl::StatusOr<bool>(
    int64_t max_bytes, v1::ScoreRequest* request)>;

// What was sent while the call may still be made again.
constexpr int64_t kKeptBytes = 1 << 20;

class ScoreCall {
 public:
  ScoreCall(v1::Memory::Stub* memory, ActiveCalls* calls,
            const ClientOptions& client_options,
            const v1::ScoreRequest::Open& open, const ScoreOptions& options)
      : memory_(memory),
        calls_(calls),
        client_options_(client_options),
        options_(options),
        repeatable_(!open.commit()) {
    kept_.emplace_back();
    *kept_.back().mutable_open() = open;
  }

  absl::StatusOr<ScoreResult> Run(const PieceSource& source) {
    Retries retries(calls_, client_options_, absl::InfiniteFuture());
    while (true) {
      const absl::Status status = RunStream(source);
      if (status.ok()) return result_;
      if (!repeatable_ || answered_ || !retries.Wait(status)) return status;
    }
  }

 private:
  // Writes on this thread, reads on another; the stream's own window keeps
  // the two in step.
  absl::Status RunStream(const PieceSource& source) {
    ActiveCall call(calls_);
    const auto stream = memory_->Score(&call.context());
    bool finished = false;
    std::thread reader([&] {
      v1::ScoreResponse response;
      while (stream->Read(&response)) {
        answered_ = true;
        if (response.has_totals()) result_.totals = response.totals();
        if (response.has_finished()) {
          result_.finished = response.finished();
          finished = true;
        }
        if (options_.on_response) options_.on_response(response);
      }
    });

    bool writable = true;
    for (const v1::ScoreRequest& request : kept_) {
      writable = writable && stream->Write(request);
    }
    absl::Status sent = absl::OkStatus();
    while (writable && !source_ended_) {
      v1::ScoreRequest request;
      const absl::StatusOr<bool> more =
          source(options_.message_bytes, &request);
      if (!more.ok()) {
        // Half a text has no score worth its price, or its commit.
        call.context().TryCancel();
        sent = more.status();
        repeatable_ = false;
      }
      source_ended_ = !more.ok() || !*more;
      if (source_ended_) break;
      writable = stream->Write(request);
      Keep(std::move(request));
    }
    stream->WritesDone();
    reader.join();
    const grpc::Status status = stream->Finish();
    if (!sent.ok()) return sent;
    if (!status.ok()) return ToAbslStatus(status);
    if (!finished) {
      return absl::InternalError("the stream ended before the score did");
    }
    return absl::OkStatus();
  }

  // Keeps what was sent for another attempt, as long as one is possible.
  void Keep(v1::ScoreRequest request) {
    kept_bytes_ += static_cast<int64_t>(request.ByteSizeLong());
    if (answered_ || kept_bytes_ > kKeptBytes) repeatable_ = false;
    if (repeatable_) {
      kept_.push_back(std::move(request));
    } else {
      kept_.clear();
    }
  }

  v1::Memory::Stub* const memory_;
  ActiveCalls* const calls_;
  const ClientOptions& client_options_;
  const ScoreOptions& options_;

  bool repeatable_;
  std::vector<v1::ScoreRequest> kept_;
  int64_t kept_bytes_ = 0;
  bool source_ended_ = false;
  std::atomic<bool> answered_ = false;
  ScoreResult result_;
};

absl::StatusOr<ScoreResult> Score(v1::Memory::Stub* memory, ActiveCalls* calls,
                                  const ClientOptions& client_options,
                                  const v1::ScoreRequest::Open& open,
                                  const PieceSource& source,
                                  const ScoreOptions& options) {
  if (options.message_bytes < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "message_bytes is ", options.message_bytes, ", wanted at least 1"));
  }
  return ScoreCall(memory, calls, client_options, open, options).Run(source);
}

}  // namespace

absl::StatusOr<ScoreResult> Client::ScoreText(
    const v1::ScoreRequest::Open& open, const TextSource& source,
    const ScoreOptions& options) {
  return Score(
      stubs_->memory.get(), &stubs_->calls, options_, open,
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
      stubs_->memory.get(), &stubs_->calls, options_, open,
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
