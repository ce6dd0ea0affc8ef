// SPDX-License-Identifier: Apache-2.0
//
// Appending by offset and by credit.
//
// The calling thread reads the source and writes segments; a second thread
// reads what the server says and moves `acknowledged_`. Between them stands
// one rule: a segment is written only if afterwards
//
//   sent - acknowledged <= max_inflight_bytes
//
// where `acknowledged` is the lowest offset the server still owes a promise
// for. So neither side ever buffers more than the credit, however fast the
// source and however slow the model.
#include <algorithm>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/client.h"
#include "client/crc32c.h"
#include "client/status.h"
#include "client/stubs.h"

namespace mneme::client {
namespace {

constexpr int64_t kTokenBytes = sizeof(int32_t);

// Puts the next payload, at most `max_units` bytes or tokens, and its checksum
// into a segment. Returns how many it put; 0 at the end.
using SegmentSource = std::function<absl::StatusOr<int64_t>(
    int64_t max_units, v1::AppendRequest::Segment* segment)>;

// One append stream from its opening to its end.
class AppendCall {
 public:
  AppendCall(v1::Memory::Stub* memory, ActiveCalls* calls,
             v1::Session::Unit unit, const AppendOptions& options)
      : unit_(unit),
        unit_bytes_(unit == v1::Session::TOKENS ? kTokenBytes : 1),
        options_(options),
        call_(calls),
        stream_(memory->Append(&call_.context())) {}

  absl::StatusOr<AppendResult> Run(const std::string& session,
                                   const SegmentSource& source) {
    v1::AppendRequest request;
    v1::AppendRequest::Open* open = request.mutable_open();
    open->set_session(session);
    open->set_uid(options_.uid);
    open->set_takeover(options_.takeover);
    open->set_resume(options_.start_offset.has_value());
    stream_->Write(request);

    std::thread reader([this] { ReadUntilEnd(); });
    const absl::Status sent = SendAll(source);
    reader.join();
    const grpc::Status status = stream_->Finish();

    absl::MutexLock lock(&mutex_);
    if (!moved_.ok()) return moved_;
    if (!status.ok()) return ToAbslStatus(status);
    if (!sent.ok()) return sent;
    if (!opened_) {
      return absl::InternalError("the server ended the stream without opening");
    }
    if (acknowledged_ < result_.end_offset) {
      return absl::InternalError(
          absl::StrCat("the server ended the stream at offset ", acknowledged_,
                       ", sent up to ", result_.end_offset));
    }
    return result_;
  }

 private:
  // Body of the reading thread.
  void ReadUntilEnd() ABSL_LOCKS_EXCLUDED(mutex_) {
    v1::AppendResponse response;
    while (stream_->Read(&response)) {
      {
        absl::MutexLock lock(&mutex_);
        Take(response);
      }
      if (options_.on_response) options_.on_response(response);
    }
    absl::MutexLock lock(&mutex_);
    ended_ = true;
  }

  void Take(const v1::AppendResponse& response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    switch (response.message_case()) {
      case v1::AppendResponse::kOpened: {
        const v1::AppendResponse::Opened& opened = response.opened();
        opened_ = true;
        result_.opened = opened;
        result_.start_offset =
            options_.start_offset.value_or(opened.next_offset());
        result_.end_offset = result_.start_offset;
        Acknowledge(opened.absorbed_offset(), opened.durable_offset());
        break;
      }
      case v1::AppendResponse::kAck: {
        const v1::AppendResponse::Ack& ack = response.ack();
        result_.ack = ack;
        result_.verified = result_.verified && ack.verified();
        result_.duplicate = result_.duplicate || ack.duplicate();
        Acknowledge(ack.absorbed_offset(), ack.durable_offset());
        break;
      }
      case v1::AppendResponse::kThrottle: {
        const auto& delay = response.throttle().retry_delay();
        pause_ =
            absl::Seconds(delay.seconds()) + absl::Nanoseconds(delay.nanos());
        break;
      }
      case v1::AppendResponse::kMoved:
        moved_ = absl::UnavailableError(absl::StrCat(
            "the session moved to ", response.moved().owner(), " (NOT_OWNER)"));
        break;
      case v1::AppendResponse::kHeartbeat:
      case v1::AppendResponse::MESSAGE_NOT_SET:
        break;
    }
  }

  void Acknowledge(int64_t absorbed, int64_t durable)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const bool fsync = result_.opened.durability() == v1::Session::FSYNC;
    acknowledged_ =
        std::max(acknowledged_, fsync ? std::min(absorbed, durable) : absorbed);
  }

  // Sends segments until the source or the stream ends. Half-closes in any
  // case, so that the reading thread ends too. OK also when the stream broke;
  // its status tells why.
  absl::Status SendAll(const SegmentSource& source)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::Status result = WaitUntilOpened();
    while (result.ok()) {
      v1::AppendRequest request;
      v1::AppendRequest::Segment* segment = request.mutable_segment();
      const absl::StatusOr<int64_t> units = source(segment_units_, segment);
      if (!units.ok()) result = units.status();
      if (!units.ok() || *units == 0) break;
      segment->set_offset(next_offset_);
      next_offset_ += *units;
      if (!WaitForCredit() || !stream_->Write(request)) break;
    }
    stream_->WritesDone();
    return result;
  }

  absl::Status WaitUntilOpened() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const auto opened_or_ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(
                                     mutex_) { return opened_ || ended_; };
    mutex_.Await(absl::Condition(&opened_or_ended));
    if (!opened_) return absl::OkStatus();
    const v1::AppendResponse::Opened& opened = result_.opened;
    if (opened.unit() != unit_) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the session counts ", v1::Session::Unit_Name(opened.unit()),
          ", sent were ", v1::Session::Unit_Name(unit_)));
    }
    // A server that names no limits gets one message at a time.
    max_inflight_bytes_ = std::max(opened.max_inflight_bytes(), unit_bytes_);
    int64_t segment_bytes =
        std::min(options_.message_bytes, max_inflight_bytes_);
    if (opened.max_segment_bytes() > 0) {
      segment_bytes = std::min(segment_bytes, opened.max_segment_bytes());
    }
    segment_units_ = std::max<int64_t>(1, segment_bytes / unit_bytes_);
    next_offset_ = result_.start_offset;
    return absl::OkStatus();
  }

  // Waits until everything up to next_offset_ may be in flight. False when
  // the stream ended instead.
  bool WaitForCredit() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const auto has_credit = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      // Behind a gap nothing will ever be acknowledged; the server has to see
      // it to say so.
      const int64_t awaited = std::max(acknowledged_, result_.start_offset);
      return ended_ ||
             (next_offset_ - awaited) * unit_bytes_ <= max_inflight_bytes_;
    };
    mutex_.Await(absl::Condition(&has_credit));
    while (!ended_ && pause_ > absl::ZeroDuration()) {
      mutex_.AwaitWithTimeout(absl::Condition(&ended_),
                              std::exchange(pause_, absl::ZeroDuration()));
    }
    if (ended_) return false;
    result_.end_offset = next_offset_;
    return true;
  }

  const v1::Session::Unit unit_;
  const int64_t unit_bytes_;
  const AppendOptions& options_;
  ActiveCall call_;
  const std::unique_ptr<
      grpc::ClientReaderWriter<v1::AppendRequest, v1::AppendResponse>>
      stream_;

  // Only for the sending thread, set by WaitUntilOpened.
  int64_t max_inflight_bytes_ = 0;
  int64_t segment_units_ = 0;
  int64_t next_offset_ = 0;

  absl::Mutex mutex_;
  bool opened_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t acknowledged_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration pause_ ABSL_GUARDED_BY(mutex_);
  absl::Status moved_ ABSL_GUARDED_BY(mutex_);
  AppendResult result_ ABSL_GUARDED_BY(mutex_);
};

absl::Status CheckMessageBytes(int64_t message_bytes) {
  if (message_bytes >= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("message_bytes is ", message_bytes, ", wanted at least 1"));
}

}  // namespace

absl::StatusOr<AppendResult> Client::AppendText(const std::string& session,
                                                const TextSource& source,
                                                const AppendOptions& options) {
  const absl::Status checked = CheckMessageBytes(options.message_bytes);
  if (!checked.ok()) return checked;
  AppendCall call(stubs_->memory.get(), &stubs_->calls, v1::Session::TEXT,
                  options);
  return call.Run(
      session,
      [&source](int64_t max_units, v1::AppendRequest::Segment* segment)
          -> absl::StatusOr<int64_t> {
        absl::StatusOr<std::string> text = source(max_units);
        if (!text.ok()) return text.status();
        const auto units = static_cast<int64_t>(text->size());
        segment->set_crc32c(Crc32c(*text));
        segment->set_text(*std::move(text));
        return units;
      });
}

absl::StatusOr<AppendResult> Client::AppendTokens(
    const std::string& session, const TokenSource& source,
    const AppendOptions& options) {
  const absl::Status checked = CheckMessageBytes(options.message_bytes);
  if (!checked.ok()) return checked;
  AppendCall call(stubs_->memory.get(), &stubs_->calls, v1::Session::TOKENS,
                  options);
  return call.Run(
      session,
      [&source](int64_t max_units, v1::AppendRequest::Segment* segment)
          -> absl::StatusOr<int64_t> {
        const absl::StatusOr<std::vector<int32_t>> ids = source(max_units);
        if (!ids.ok()) return ids.status();
        segment->set_crc32c(Crc32c(*ids));
        segment->mutable_tokens()->mutable_ids()->Add(ids->begin(), ids->end());
        return static_cast<int64_t>(ids->size());
      });
}

}  // namespace mneme::client
