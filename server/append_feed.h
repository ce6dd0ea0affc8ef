// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_APPEND_FEED_H_
#define MNEME_SERVER_APPEND_FEED_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "mneme/v1/memory.pb.h"
#include "server/service_context.h"

namespace mneme::server {

// The writing half of a stream: segments on their way into a session, and the
// acks that come back. It keeps one segment that the session has no room for
// yet; whoever drives it reads no other meanwhile. Guarded by its reactor.
class AppendFeed {
 public:
  explicit AppendFeed(const ServiceContext& context) : context_(context) {}

  // Becomes the session's writer. `listener` outlives it. REQUIRES: the session
  // is held.
  absl::Status Open(const AppendOptions& options, StreamListener* listener);
  // Before its reactor says the final status: the session is free then.
  void Close() { stream_.reset(); }

  const std::string& model() const { return model_; }
  v1::AppendResponse::Opened Opened() const;

  // Takes the segment out of a message. REQUIRES: none waits.
  absl::Status Take(v1::AppendRequest::Segment* segment);
  // An ack is due once all that was taken is settled.
  void Flush() { flush_offset_ = taken_end_; }

  // Offers the segment that waits, if one does; not OK if the session refuses
  // it, or if the stream is over by another's doing.
  absl::Status Offer();
  bool waiting() const { return segment_.has_value(); }
  // Whether the session has room for another segment.
  bool writable();
  // Everything that was taken is absorbed, and durable where the session is.
  bool settled() const { return IsSettled(stream_->progress()); }

  // What is to be said, if anything; each is said once.
  bool FillThrottle(v1::Throttle* throttle);
  // `last`: even if there is nothing new.
  bool FillAck(bool last, v1::AppendResponse::Ack* ack);

 private:
  void NoteStall();
  bool IsSettled(const AppendProgress& progress) const;

  const ServiceContext context_;
  std::string session_;  // id
  std::string model_;
  std::unique_ptr<AppendStream> stream_;  // null before Open and after Close
  absl::optional<AppendStream::Segment> segment_;
  int64_t taken_end_ = 0;  // of the segments that were taken
  bool stalled_ = false;
  bool throttle_due_ = false;
  bool throttle_said_ = false;  // in this stall
  bool duplicate_ = false;      // since the last ack
  bool verified_ = true;        // likewise
  absl::optional<int64_t> flush_offset_;
  bool durable_ = false;  // whether the session is
  int64_t acked_absorbed_ = 0;
  int64_t acked_durable_ = 0;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_APPEND_FEED_H_
