// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_APPEND_REACTOR_H_
#define MNEME_SERVER_APPEND_REACTOR_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "mneme/v1/memory.pb.h"
#include "server/service_context.h"
#include "server/stream_pump.h"

namespace mneme::server {

// One Memory.Append call. Owns itself.
//
// Whatever happens, Advance looks at everything and does what can be done: it
// offers the segment that waits, reads the next message only while the
// session has credit, and writes at most one message at a time, so acks join
// while the client is slow. The engine's stream is gone before the client
// hears the final status: the session is free for its next writer.
class AppendReactor final
    : public grpc::ServerBidiReactor<v1::AppendRequest, v1::AppendResponse>,
      public PumpedStream {
 public:
  explicit AppendReactor(const ServiceContext& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void Advance() override;

 private:
  // Each does its part under the lock; End sets the outcome, once.
  void TakeMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OfferSegment() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakeInput() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void NoteStall() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool FillResponse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool FillAck() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const ServiceContext context_;
  CountedRpc rpc_;

  absl::Mutex mu_;
  std::string session_ ABSL_GUARDED_BY(mu_);  // resource name
  std::string session_id_ ABSL_GUARDED_BY(mu_);
  std::string model_ ABSL_GUARDED_BY(mu_);
  // Null before Open, and from the end on.
  std::unique_ptr<AppendStream> stream_ ABSL_GUARDED_BY(mu_);

  v1::AppendRequest request_ ABSL_GUARDED_BY(mu_);  // being read
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool input_ended_ ABSL_GUARDED_BY(mu_) = false;
  // Waits to be taken by the session; nothing is read meanwhile.
  absl::optional<AppendStream::Segment> segment_ ABSL_GUARDED_BY(mu_);
  bool stalled_ ABSL_GUARDED_BY(mu_) = false;
  // Of the segments that were taken.
  int64_t taken_end_ ABSL_GUARDED_BY(mu_) = 0;

  v1::AppendResponse response_ ABSL_GUARDED_BY(mu_);  // being written
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool opened_due_ ABSL_GUARDED_BY(mu_) = false;
  bool throttle_due_ ABSL_GUARDED_BY(mu_) = false;
  bool throttle_sent_ ABSL_GUARDED_BY(mu_) = false;  // in this stall
  bool last_ack_due_ ABSL_GUARDED_BY(mu_) = false;
  bool duplicate_ ABSL_GUARDED_BY(mu_) = false;  // since the last ack
  bool verified_ ABSL_GUARDED_BY(mu_) = true;    // likewise
  // An ack is due when this is absorbed.
  absl::optional<int64_t> flush_offset_ ABSL_GUARDED_BY(mu_);
  int64_t acked_offset_ ABSL_GUARDED_BY(mu_) = 0;

  absl::optional<grpc::Status> outcome_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_APPEND_REACTOR_H_
