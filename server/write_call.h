// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_WRITE_CALL_H_
#define MNEME_SERVER_WRITE_CALL_H_

#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "server/service_context.h"
#include "server/status.h"
#include "server/stream_pump.h"

namespace mneme::server {

// What the calls have in common that answer one request with a stream. Owns
// itself. At most one message is being written; what the engine has to say
// meanwhile stays there.
template <typename Response>
class WriteCall : public grpc::ServerWriteReactor<Response>,
                  public PumpedStream {
 public:
  void OnWriteDone(bool ok) final;
  void OnCancel() final;
  void OnDone() final;
  void Advance() final;

 protected:
  // `method`: its full name, as in "mneme.v1.Memory/Generate".
  WriteCall(const ServiceContext& context, const char* method)
      : PumpedStream(context.pump),
        context_(context),
        rpc_(context.metrics, context.clock, method) {}

  // Once, at the end of the constructor of the whole object: `begin` asks the
  // engine, and is told its error.
  template <typename BeginFunction>
  void Start(BeginFunction begin) {
    JoinPump();
    {
      absl::MutexLock lock(&mu_);
      EndOnError(begin());
    }
    Advance();
  }

  // Fills `response`, which is empty, with what is to be said; false if that
  // is nothing. May end the call, after what it filled. Until ended.
  virtual bool Fill(Response* response) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  // Gives up what the engine gave. May be called again.
  virtual void Close() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  // For metrics: the client gave up, before Close; the call ended.
  virtual void CountCancel() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {}
  virtual void CountEnd(absl::Duration /*elapsed*/)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {}

  // Closes, if it has not ended yet.
  void End(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!outcome_.has_value()) outcome_ = std::move(status);
    Close();
  }
  void EndOnError(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!status.ok()) End(ToGrpcStatus(status, resource_));
  }

  const ServiceContext context_;
  absl::Mutex mu_;
  std::string resource_ ABSL_GUARDED_BY(mu_);  // that the call is about

 private:
  CountedRpc rpc_;
  Response response_ ABSL_GUARDED_BY(mu_);  // being written
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  absl::optional<grpc::Status> outcome_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

template <typename Response>
void WriteCall<Response>::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) End(grpc::Status::CANCELLED);
  }
  Advance();
}

template <typename Response>
void WriteCall<Response>::OnCancel() {
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    CountCancel();
    End(grpc::Status::CANCELLED);
  }
  Advance();
}

template <typename Response>
void WriteCall<Response>::OnDone() {
  LeavePump();
  delete this;
}

template <typename Response>
void WriteCall<Response>::Advance() {
  grpc::Status status;
  {
    absl::MutexLock lock(&mu_);
    if (finished_ || writing_) return;
    if (!outcome_.has_value()) {
      response_.Clear();
      if (Fill(&response_)) {
        writing_ = true;
        this->StartWrite(&response_);
        return;
      }
    }
    if (!outcome_.has_value()) return;
    finished_ = true;
    status = *outcome_;
    CountEnd(rpc_.End(status.error_code()));
  }
  this->Finish(status);  // may end this object
}

}  // namespace mneme::server

#endif  // MNEME_SERVER_WRITE_CALL_H_
