// SPDX-License-Identifier: Apache-2.0
#include "server/import_reactor.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "server/answer.h"
#include "server/convert.h"
#include "server/request_tag.h"
#include "server/status.h"

namespace mneme::server {
namespace {

constexpr char kMethod[] = "mneme.v1.Sessions/ImportSession";
constexpr size_t kMaxChunkBytes = 1 << 20;

}  // namespace

ImportReactor::ImportReactor(const ServiceContext& context, v1::Session* reply)
    : PumpedStream(context.pump),
      context_(context),
      reply_(reply),
      rpc_(context.metrics, context.clock, kMethod) {
  JoinPump();
  absl::MutexLock lock(&mu_);
  StartRead(&request_);
}

void ImportReactor::OnReadDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    if (!outcome_.has_value()) {
      if (ok) {
        const absl::Status status = TakeMessage();
        if (!status.ok()) Fail(status);
      } else if (!opened_) {
        Fail(BadField("message", "the stream ended before open"));
      } else if (import_ != nullptr) {
        import_->Finish(std::exchange(done_, nullptr));
        import_.reset();
      }
      if (ok && import_ != nullptr) StartRead(&request_);
    }
  }
  Advance();
}

absl::Status ImportReactor::TakeMessage() {
  if (!opened_) {
    if (!request_.has_open()) return BadField("message", "wanted open first");
    opened_ = true;
    return Open(request_.open());
  }
  switch (request_.message_case()) {
    case v1::ImportSessionRequest::kChunk:
      if (request_.chunk().size() > kMaxChunkBytes) {
        return BadField("chunk", absl::StrCat("found ", request_.chunk().size(),
                                              " bytes, wanted ", kMaxChunkBytes,
                                              " at most"));
      }
      return import_->Add(request_.chunk());
    case v1::ImportSessionRequest::kOpen:
      return BadField("open", "wanted once, in the first message");
    default:
      return BadField("message", "wanted a chunk");
  }
}

absl::Status ImportReactor::Open(const v1::ImportSessionRequest::Open& open) {
  MNEME_ASSIGN_OR_RETURN(ImportOptions options, FromProto(open));
  resource_ = open.model();
  options.request = TagOf<SessionInfo>(kMethod, open);
  ShareOnce<v1::ImportSessionRequest::Open, v1::Session>(
      *context_.request_ids, kMethod, open,
      [&](Engine::Done<v1::Session> done) ABSL_NO_THREAD_SAFETY_ANALYSIS {
        context_.engine->ImportSession(options, begin_.Await(this));
        done_ = [done = std::move(done)](
                    const absl::StatusOr<SessionInfo>& session) {
          if (session.ok()) {
            done(ToProto(*session));
          } else {
            done(SessionExists(session.status()));
          }
        };
      },
      answer_.Await(this));
  return absl::OkStatus();
}

void ImportReactor::Fail(const absl::Status& status) {
  if (outcome_.has_value()) return;
  outcome_ = ToGrpcStatus(status, resource_);
  begin_.GiveUp();
  answer_.GiveUp();
  import_.reset();
  if (done_ != nullptr) std::exchange(done_, nullptr)(status);
}

// A file that the engine has becomes a session all the same.
void ImportReactor::OnCancel() {
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    Fail(absl::CancelledError("the client gave up"));
  }
  Advance();
}

void ImportReactor::OnDone() {
  LeavePump();
  delete this;
}

void ImportReactor::Advance() {
  grpc::Status status;
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    if (!outcome_.has_value() && begin_.pending()) {
      if (auto import = begin_.Take()) {
        if (import->ok()) {
          import_ = **std::move(import);
          StartRead(&request_);
        } else {
          std::exchange(done_, nullptr)(import->status());
        }
      }
    }
    if (!outcome_.has_value() && answer_.pending()) {
      if (auto answer = answer_.Take()) {
        outcome_ = ToGrpcStatus(answer->status(), resource_);
        if (answer->ok()) *reply_ = **std::move(answer);
      }
    }
    // What comes slowly is not waited for.
    const bool working = opened_ && import_ == nullptr && !begin_.pending();
    if (pump()->draining() && !working) Fail(DrainingError());
    if (!outcome_.has_value()) return;
    finished_ = true;
    status = *outcome_;
    rpc_.End(status.error_code());
  }
  Finish(status);  // may end this object
}

}  // namespace mneme::server
