// SPDX-License-Identifier: Apache-2.0
//
// How input gets into a session: its writers and their segments.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/crc32c.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/runtime/session.h"

namespace mneme {
namespace {

std::string Hex(uint32_t value) {
  return absl::StrCat(absl::Hex(value, absl::kZeroPad8));
}

}  // namespace

absl::StatusOr<std::shared_ptr<SessionWriter>> Session::OpenWriter(
    const AppendOptions& options, StreamListener* listener,
    AppendOpened& opened) {
  std::shared_ptr<SessionWriter> fenced;
  auto writer = std::make_shared<SessionWriter>(listener);
  {
    absl::MutexLock lock(&mutex_);
    MNEME_RETURN_IF_ERROR(CheckAlive());
    if (options.expected_epoch != 0 && options.expected_epoch != epoch_) {
      return WithReason(absl::AbortedError(absl::StrCat(
                            "session ", id(), " is in epoch ", epoch_,
                            ", want ", options.expected_epoch)),
                        {.reason = "EPOCH_FENCED",
                         .metadata = {{"epoch", absl::StrCat(epoch_)}}});
    }
    if (writer_ != nullptr) {
      if (!options.takeover) {
        return WithReason(
            absl::AbortedError(absl::StrCat(
                "session ", id(), " has another append stream; want takeover")),
            {.reason = "SESSION_BUSY", .metadata = {{"busy", "APPENDING"}}});
      }
      ++epoch_;
      ++revision_;
      FenceWriter(fenced);
    }
    stalled_ = false;
    input_.Reserve(kMaxInflightBytes);
    writer->position_at_open = position_;
    writer_ = writer;
    opened.uid = uid();
    opened.epoch = epoch_;
    opened.unit = unit();
    opened.next_offset = history_.next_offset();
    opened.absorbed_offset = AbsorbedOffset();
    opened.position = position_;
    opened.max_inflight_bytes = kMaxInflightBytes;
    opened.max_segment_bytes = kMaxSegmentBytes;
    if (input_.idle()) opened.history_digest = history_.Digest();
  }
  if (fenced != nullptr) fenced->notifier.Notify();
  return writer;
}

void Session::CloseWriter(const std::shared_ptr<SessionWriter>& writer) {
  writer->notifier.Detach();
  absl::MutexLock lock(&mutex_);
  if (writer_ != writer) return;
  writer_ = nullptr;
  update_time_ = setup_.clock->Now();
  input_.Reserve(0);
}

bool Session::HasRoomFor(int64_t bytes) const {
  const bool pending =
      input_.idle() && input_.held_bytes() <= InputQueue::kMaxPendingBytes;
  return tasks_.empty() &&
         (pending || input_.held_bytes() + bytes <= kMaxInflightBytes);
}

void Session::Accept(std::string_view bytes) {
  history_.Add(bytes);
  input_.Append(bytes);
  update_time_ = setup_.clock->Now();
  stalled_ = false;
}

absl::StatusOr<AppendStream::Taken> Session::Write(
    const SessionWriter& writer, const AppendStream::Segment& segment) {
  Observer& observer = *setup_.observer;
  const std::string& model = setup_.model->name;
  auto rejected = [&](SegmentResult result, absl::Status status) {
    observer.OnSegment(model, result, 0);
    return status;
  };

  AppendStream::Taken taken;
  {
    // Waiting costs nothing: a segment is looked at when there is room for it.
    absl::MutexLock lock(&mutex_);
    MNEME_RETURN_IF_ERROR(writer.status);
    if (!HasRoomFor(PayloadSize(segment.payload))) {
      taken.offer = Offer::kLater;
      return taken;
    }
  }

  // What can be said of the segment by itself.
  const std::string bytes = PayloadBytes(segment.payload);
  const auto size = static_cast<int64_t>(bytes.size());
  if (size == 0 || size > kMaxSegmentBytes) {
    return rejected(SegmentResult::kRejected,
                    BadField("segment.payload",
                             absl::StrCat("found ", size, " bytes for offset ",
                                          segment.offset, ", wanted 1 to ",
                                          kMaxSegmentBytes)));
  }
  if (segment.offset < 0) {
    return rejected(
        SegmentResult::kRejected,
        BadField("segment.offset",
                 absl::StrCat("found ", segment.offset, ", wanted 0 or more")));
  }
  if (segment.crc32c.has_value()) {
    const uint32_t found = Crc32c(bytes);
    if (found != *segment.crc32c) {
      return rejected(
          SegmentResult::kRejected,
          WithReason(absl::InvalidArgumentError(absl::StrCat(
                         "segment at offset ", segment.offset, ": crc32c is ",
                         found, ", want ", *segment.crc32c)),
                     {.reason = "CRC_MISMATCH",
                      .metadata = {{"offset", absl::StrCat(segment.offset)},
                                   {"found", Hex(found)},
                                   {"expected", Hex(*segment.crc32c)}}}));
    }
  }
  if (const absl::Status status = setup_.model->CheckInput(
          unit(), segment.payload,
          absl::StrCat("segment at offset ", segment.offset));
      !status.ok()) {
    return rejected(SegmentResult::kRejected, status);
  }

  absl::MutexLock lock(&mutex_);
  MNEME_RETURN_IF_ERROR(writer.status);
  if (!HasRoomFor(size)) {
    taken.offer = Offer::kLater;
    return taken;
  }
  const int64_t next = history_.next_offset();
  const int64_t unit_bytes = history_.unit_bytes();
  if (segment.offset > next) {
    return rejected(
        SegmentResult::kGap,
        WithReason(absl::OutOfRangeError(
                       absl::StrCat("segment at offset ", segment.offset,
                                    " leaves a gap, want ", next)),
                   {.reason = "SEGMENT_GAP",
                    .metadata = {{"offset", absl::StrCat(segment.offset)},
                                 {"expected_offset", absl::StrCat(next)}}}));
  }
  // What the session has already has to be the same.
  const int64_t known_bytes =
      std::min((next - segment.offset) * unit_bytes, size);
  if (known_bytes > 0) {
    taken.duplicate = true;
    switch (history_.Compare(segment.offset,
                             std::string_view(bytes).substr(0, known_bytes))) {
      case History::Match::kSame:
        break;
      case History::Match::kTooOld:
        taken.verified = false;
        break;
      case History::Match::kDifferent:
        return rejected(
            SegmentResult::kConflict,
            WithReason(absl::FailedPreconditionError(absl::StrCat(
                           "segment at offset ", segment.offset,
                           " differs from what the session has there")),
                       {.reason = "SEGMENT_CONFLICT",
                        .metadata = {{"offset", absl::StrCat(segment.offset)},
                                     {"next_offset", absl::StrCat(next)}}}));
    }
  }
  if (known_bytes == size) {
    observer.OnSegment(model, SegmentResult::kDuplicate, 0);
    return taken;
  }
  const std::string_view added = std::string_view(bytes).substr(known_bytes);
  if (const absl::Status status =
          input_.CheckText(added, "segment.payload", next);
      !status.ok()) {
    return rejected(SegmentResult::kRejected, status);
  }
  if (const absl::Status status = input_.CheckTurn(
          added, segment.role, segment.end_of_turn, "segment.");
      !status.ok()) {
    return rejected(SegmentResult::kRejected, status);
  }
  if (input_.NearLimit(added.size(), position_)) {
    InputQueue trial = input_;
    trial.BeginTurn(segment.role);
    trial.Append(added);
    if (segment.end_of_turn) trial.EndTurn();
    const absl::Status status = trial.CheckLimit(
        absl::StrCat("segment at offset ", segment.offset), position_);
    if (!status.ok()) return rejected(SegmentResult::kRejected, status);
  }
  input_.BeginTurn(segment.role);
  Accept(added);
  if (segment.end_of_turn) input_.EndTurn();
  observer.OnSegment(model, SegmentResult::kApplied, size - known_bytes);
  return taken;
}

bool Session::Writable(const SessionWriter& writer) const {
  absl::MutexLock lock(&mutex_);
  return !writer.status.ok() || HasRoomFor(1);
}

absl::Status Session::WriterStatus(const SessionWriter& writer) const {
  absl::MutexLock lock(&mutex_);
  return writer.status;
}

AppendProgress Session::Progress(const SessionWriter& writer) const {
  absl::MutexLock lock(&mutex_);
  return {.absorbed_offset = AbsorbedOffset(),
          .position = position_,
          .tokens = position_ - writer.position_at_open,
          .idle = input_.idle()};
}

}  // namespace mneme
