// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_BIDI_CALL_H_
#define MNEME_SERVER_BIDI_CALL_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "server/later.h"
#include "server/service_context.h"
#include "server/status.h"
#include "server/stream_pump.h"

namespace mneme::server {

// What the two-way calls have in common: the first message opens a session,
// the others feed it, and answers go back until one side ends it. Owns itself.
//
// Whatever happens, Advance looks at everything and does what can be done: it
// hands input to the engine, reads the next message only when the call asks
// for it, and writes at most one message at a time, so answers join while the
// client is slow. The engine's streams are gone before the client hears the
// final status: the session is free for its next writer.
//
// `Request` has a field `open`.
template <typename Request, typename Response>
class BidiCall : public grpc::ServerBidiReactor<Request, Response>,
                 public PumpedStream {
 public:
  void OnReadDone(bool ok) final;
  void OnWriteDone(bool ok) final;
  void OnCancel() final;
  void OnDone() final;
  void Advance() final;

 protected:
  // `method`: its full name, as in "mneme.v1.Memory/Append".
  BidiCall(const grpc::CallbackServerContext& call,
           const ServiceContext& context, const char* method)
      : PumpedStream(context.pump),
        context_(context),
        call_(call),
        rpc_(context.metrics, context.clock, method) {}

  // Once, at the end of the constructor of the whole object.
  void Start();

  // The parts of a call. An error ends it, and is told of session_.

  // The first message; it has `open`. Sets session_ and calls Load, or
  // BeginWithout.
  virtual absl::Status Open(Request* request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  // The session is in memory, for as long as `hold` lives: opens the engine's
  // stream.
  virtual absl::Status Begin(std::shared_ptr<SessionHold> hold)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  // Any later message; it has no `open`.
  virtual absl::Status Take(Request* request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  // Once begun and until ended: offers what waits, and either asks for more
  // by Read or, when the input ended or the daemon drains, ends the call.
  virtual absl::Status HandOn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  // Fills `response`, which is empty, with what is to be said; false if that
  // is nothing. Once begun and until ended.
  virtual bool Fill(Response* response) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  // Gives up the engine's streams. May be called again.
  virtual void Close() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  // For metrics: the client gave up, before Close; the call ended.
  virtual void CountCancel() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  virtual void CountEnd(absl::Duration elapsed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;

  // Brings the session into memory. Until it is there nothing is read.
  void Load(const std::string& id, const std::string& uid)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    context_.engine->Load(id, uid, load_.Await(this));
  }

  // Of a call that needs no session: it has begun.
  void BeginWithout() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { begun_ = true; }

  // Reads the next message. REQUIRES: readable().
  void Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // No message is being read, and there may be more.
  bool readable() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return !reading_ && !input_ended_;
  }
  bool input_ended() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return input_ended_;
  }

  // Set the outcome, if there is none yet. End closes, and nothing more is
  // said; EndAfterLast closes when Fill has nothing more to say.
  void End(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndAfterLast(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const ServiceContext context_;
  absl::Mutex mu_;
  std::string session_ ABSL_GUARDED_BY(mu_);  // resource name

 private:
  absl::Status TakeMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status TakeLoad() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CloseAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    load_.GiveUp();
    Close();
  }
  void EndOnError(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!status.ok()) End(ToGrpcStatus(status, session_));
  }

  const grpc::CallbackServerContext& call_;
  CountedRpc rpc_;
  bool opened_ ABSL_GUARDED_BY(mu_) = false;
  Later<std::shared_ptr<SessionHold>> load_ ABSL_GUARDED_BY(mu_);
  bool begun_ ABSL_GUARDED_BY(mu_) = false;
  Request request_ ABSL_GUARDED_BY(mu_);  // being read
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool input_ended_ ABSL_GUARDED_BY(mu_) = false;
  Response response_ ABSL_GUARDED_BY(mu_);  // being written
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  absl::optional<grpc::Status> outcome_ ABSL_GUARDED_BY(mu_);
  bool last_due_ ABSL_GUARDED_BY(mu_) = false;  // with an outcome
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

template <typename Request, typename Response>
void BidiCall<Request, Response>::Start() {
  JoinPump();
  absl::MutexLock lock(&mu_);
  Read();
}

template <typename Request, typename Response>
void BidiCall<Request, Response>::OnReadDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    reading_ = false;
    input_ended_ = !ok;
    // A client that is gone has not said that this was all.
    if (!ok && call_.IsCancelled()) End(grpc::Status::CANCELLED);
    // After the outcome it came too late to matter.
    if (!outcome_.has_value()) EndOnError(TakeMessage());
  }
  Advance();
}

template <typename Request, typename Response>
absl::Status BidiCall<Request, Response>::TakeMessage() {
  if (opened_) {
    if (input_ended_) return absl::OkStatus();
    if (!request_.has_open()) return Take(&request_);
    return BadField("open", "wanted once, in the first message");
  }
  if (input_ended_) return BadField("message", "the stream ended before open");
  if (!request_.has_open()) return BadField("message", "wanted open first");
  absl::Status status = Open(&request_);
  opened_ = status.ok();
  return status;
}

template <typename Request, typename Response>
absl::Status BidiCall<Request, Response>::TakeLoad() {
  absl::optional<absl::StatusOr<std::shared_ptr<SessionHold>>> loaded =
      load_.Take();
  if (!loaded.has_value()) return absl::OkStatus();
  MNEME_ASSIGN_OR_RETURN(std::shared_ptr<SessionHold> hold, *std::move(loaded));
  MNEME_RETURN_IF_ERROR(Begin(std::move(hold)));
  begun_ = true;
  return absl::OkStatus();
}

template <typename Request, typename Response>
void BidiCall<Request, Response>::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) {
      last_due_ = false;
      End(grpc::Status::CANCELLED);
    }
  }
  Advance();
}

// What was taken and said stays in the session.
template <typename Request, typename Response>
void BidiCall<Request, Response>::OnCancel() {
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    CountCancel();
    outcome_ = grpc::Status::CANCELLED;
    last_due_ = false;
    CloseAll();
  }
  Advance();
}

template <typename Request, typename Response>
void BidiCall<Request, Response>::OnDone() {
  LeavePump();
  delete this;
}

template <typename Request, typename Response>
void BidiCall<Request, Response>::Advance() {
  grpc::Status status;
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    if (!outcome_.has_value() && load_.pending()) EndOnError(TakeLoad());
    if (!outcome_.has_value()) {
      if (begun_) {
        EndOnError(HandOn());
      } else if (pump()->draining()) {
        End(ToGrpcStatus(DrainingError()));
      }
    }
    if (writing_) return;
    if (begun_ && (!outcome_.has_value() || last_due_)) {
      response_.Clear();
      if (Fill(&response_)) {
        writing_ = true;
        this->StartWrite(&response_);
        return;
      }
    }
    if (!outcome_.has_value()) return;
    finished_ = true;
    CloseAll();
    status = *outcome_;
    CountEnd(rpc_.End(status.error_code()));
  }
  this->Finish(status);  // may end this object
}

template <typename Request, typename Response>
void BidiCall<Request, Response>::Read() {
  reading_ = true;
  this->StartRead(&request_);
}

template <typename Request, typename Response>
void BidiCall<Request, Response>::End(grpc::Status status) {
  if (outcome_.has_value()) return;
  outcome_ = std::move(status);
  CloseAll();  // the session need not wait for a write
}

template <typename Request, typename Response>
void BidiCall<Request, Response>::EndAfterLast(grpc::Status status) {
  if (outcome_.has_value()) return;
  outcome_ = std::move(status);
  last_due_ = true;
}

}  // namespace mneme::server

#endif  // MNEME_SERVER_BIDI_CALL_H_
