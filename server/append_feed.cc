// SPDX-License-Identifier: Apache-2.0
#include "server/append_feed.h"

#include <algorithm>
#include <utility>

#include "engine/base/status_macros.h"
#include "server/convert.h"

namespace mneme::server {
namespace {

// Bytes or tokens that are absorbed or durable before an ack says so, unless
// all are or the client asks: a fraction of the credit, so that it never runs
// dry.
constexpr int64_t kAckEvery = 4 << 10;
constexpr absl::Duration kThrottleDelay = absl::Milliseconds(200);

int64_t LengthOf(const Payload& payload) {
  return std::visit(
      [](const auto& items) { return static_cast<int64_t>(items.size()); },
      payload);
}

}  // namespace

absl::Status AppendFeed::Open(const AppendOptions& options,
                              StreamListener* listener) {
  session_ = options.session;
  MNEME_ASSIGN_OR_RETURN(stream_,
                         context_.engine->OpenAppend(options, listener));
  const absl::StatusOr<SessionInfo> info =
      context_.engine->GetSession(session_);
  if (info.ok()) model_ = info->model;  // else the stream's status will tell
  const AppendOpened& opened = stream_->opened();
  taken_end_ = opened.next_offset;
  durable_ = opened.durability == Durability::kSynced;
  acked_absorbed_ = opened.absorbed_offset;
  acked_durable_ = opened.durable_offset;
  return absl::OkStatus();
}

v1::AppendResponse::Opened AppendFeed::Opened() const {
  return ToProto(stream_->opened());
}

absl::Status AppendFeed::Take(v1::AppendRequest::Segment* segment) {
  MNEME_ASSIGN_OR_RETURN(segment_, FromProto(segment));
  return absl::OkStatus();
}

absl::Status AppendFeed::Offer() {
  if (segment_.has_value()) {
    MNEME_ASSIGN_OR_RETURN(const AppendStream::Taken taken,
                           stream_->Write(*segment_));
    if (taken.offer == Offer::kLater) {
      NoteStall();
    } else {
      stalled_ = false;
      taken_end_ =
          std::max(taken_end_, segment_->offset + LengthOf(segment_->payload));
      segment_.reset();
      if (taken.duplicate) duplicate_ = true;
      if (!taken.verified) verified_ = false;
    }
  }
  return stream_->status();
}

bool AppendFeed::writable() {
  if (!stream_->writable()) {
    NoteStall();
    return false;
  }
  stalled_ = false;
  return true;
}

// A wait counts once, and the client hears once when it is for another's turn.
void AppendFeed::NoteStall() {
  if (!stalled_) {
    stalled_ = true;
    throttle_said_ = false;
    context_.metrics->OnCreditStalled(model_);
  }
  if (throttle_said_) return;
  const absl::StatusOr<SessionInfo> info =
      context_.engine->GetSession(session_);
  if (info.ok() && info->activity != SessionActivity::kIdle &&
      info->activity != SessionActivity::kAppending) {
    throttle_due_ = true;
    throttle_said_ = true;
  }
}

bool AppendFeed::FillThrottle(v1::Throttle* throttle) {
  if (!std::exchange(throttle_due_, false)) return false;
  *throttle->mutable_retry_delay() = ToDuration(kThrottleDelay);
  throttle->set_reason(
      "a generation, a scoring or a commit writes the session");
  return true;
}

bool AppendFeed::IsSettled(const AppendProgress& progress) const {
  return progress.idle && (!durable_ || progress.durable_offset >= taken_end_);
}

bool AppendFeed::FillAck(bool last, v1::AppendResponse::Ack* ack) {
  const AppendProgress progress = stream_->progress();
  const bool flushed =
      flush_offset_.has_value() &&
      (progress.idle || progress.absorbed_offset >= *flush_offset_) &&
      (!durable_ || progress.durable_offset >= *flush_offset_);
  // What a generation wrote meanwhile is not this stream's to hear of: it would
  // take it for its own.
  const int64_t absorbed = std::min(progress.absorbed_offset, taken_end_);
  const int64_t durable = std::min(progress.durable_offset, taken_end_);
  const int64_t news =
      std::max(absorbed - acked_absorbed_, durable - acked_durable_);
  const bool news_enough =
      news >= kAckEvery || (news > 0 && IsSettled(progress));
  if (!last && !flushed && !duplicate_ && !news_enough) return false;
  ack->set_durable_offset(durable);
  ack->set_absorbed_offset(absorbed);
  ack->set_position(progress.position);
  ack->set_tokens(progress.tokens);
  ack->set_verified(verified_);
  ack->set_duplicate(duplicate_);
  acked_absorbed_ = std::max(acked_absorbed_, absorbed);
  acked_durable_ = std::max(acked_durable_, durable);
  if (flushed) flush_offset_.reset();
  duplicate_ = false;
  verified_ = true;
  return true;
}

}  // namespace mneme::server
