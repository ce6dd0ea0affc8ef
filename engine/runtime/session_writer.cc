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
  Afterwards after;
  auto writer = std::make_shared<SessionWriter>(listener);
  {
    absl::MutexLock lock(&mutex_);
    MNEME_RETURN_IF_ERROR(CheckHot());
    const int64_t epoch = record_.epoch;
    if (options.expected_epoch != 0 && options.expected_epoch != epoch) {
      return WithReason(absl::AbortedError(absl::StrCat(
                            "session ", id(), " is in epoch ", epoch, ", want ",
                            options.expected_epoch)),
                        {.reason = "EPOCH_FENCED",
                         .metadata = {{"epoch", absl::StrCat(epoch)}}});
    }
    if (writer_ != nullptr) {
      if (!options.takeover) {
        return WithReason(
            absl::AbortedError(absl::StrCat(
                "session ", id(), " has another append stream; want takeover")),
            {.reason = "SESSION_BUSY", .metadata = {{"busy", "APPENDING"}}});
      }
      // In the store before anything that the new writer sends.
      SessionRecord& record = EditRecord();
      ++record.epoch;
      ++record.revision;
      Tell(SessionEvent::Kind::kFenced, "", after);
      FenceWriter(TakenOver(id(), record.epoch), after);
      PutRecord();
    }
    // What a crash cut off ends here.
    ResumeSuspended(/*cancel=*/true, after);
    stalled_ = false;
    hot_->input.Reserve(kMaxInflightBytes);
    writer->position_at_open = reach_.position;
    writer_ = writer;
    opened.uid = uid();
    opened.epoch = record_.epoch;
    opened.unit = unit();
    opened.next_offset = hot_->history.next_offset();
    opened.absorbed_offset = AbsorbedOffset();
    opened.position = reach_.position;
    opened.max_inflight_bytes = kMaxInflightBytes;
    opened.max_segment_bytes = kMaxSegmentBytes;
    if (options.hold != nullptr) opened.load = options.hold->report();
    opened.durability =
        store_->durable() ? Durability::kSynced : Durability::kNone;
    if (store_->durable()) opened.durable_offset = writes_.durable().offset;
    const bool at_hand = store_->durable()
                             ? writes_.durable().offset == opened.next_offset
                             : opened.absorbed_offset == opened.next_offset;
    if (at_hand) opened.history_digest = hot_->history.Digest();
  }
  Do(after);
  return writer;
}

void Session::FenceWriter(const absl::Status& status, Afterwards& after) {
  if (hot_ != nullptr) hot_->input.Reserve(0);
  if (writer_ == nullptr) return;
  writer_->status = status;
  std::shared_ptr<SessionWriter> fenced = std::move(writer_);
  after.calls.push_back([fenced] { fenced->notifier.Notify(); });
}

void Session::CloseWriter(const std::shared_ptr<SessionWriter>& writer) {
  writer->notifier.Detach();
  Afterwards after;
  {
    absl::MutexLock lock(&mutex_);
    if (writer_ != writer) return;
    writer_ = nullptr;
    NoteUse();
    if (hot_ != nullptr) hot_->input.Reserve(0);
    after.wake = hot_ != nullptr;
  }
  Do(after);
}

bool Session::HasRoomFor(int64_t bytes) const {
  const InputQueue& input = hot_->input;
  const int64_t held = std::max(input.held_bytes(), writes_.bytes());
  const bool pending = writes_.bytes() == 0 && input.idle() &&
                       input.held_bytes() <= InputQueue::kMaxPendingBytes;
  return tasks_.empty() && quiet_.empty() &&
         (pending || held + bytes <= kMaxInflightBytes);
}

void Session::Accept(const InputRecord& input) {
  InputQueue& queue = hot_->input;
  queue.BeginTurn(input.role);
  hot_->history.Add(input.bytes);
  queue.Append(input.bytes);
  if (input.end_of_turn) queue.EndTurn();
  NoteUse();
  stalled_ = false;
}

absl::optional<History::Match> Session::CompareSegment(int64_t offset,
                                                       std::string_view bytes,
                                                       Afterwards& after) {
  const History& history = hot_->history;
  const History::Match match = history.Compare(offset, bytes);
  const SessionWrites::Place begin = JournalBegin(record_);
  const int64_t end =
      offset + static_cast<int64_t>(bytes.size()) / history.unit_bytes();
  if (match != History::Match::kTooOld || end <= begin.offset) return match;
  absl::optional<SessionWriter::Comparison>& last = writer_->comparison;
  if (last.has_value() && last->offset == offset && last->bytes == bytes) {
    return last->match;
  }
  if (last.has_value() && !last->match.has_value()) return absl::nullopt;
  last = {.offset = offset, .bytes = std::string(bytes), .match = {}};
  after.calls.push_back(
      [this, self = shared_from_this(), begin, writer = writer_] {
        host_->Post(
            [self, writer, begin] { self->CompareWithJournal(writer, begin); });
      });
  return absl::nullopt;
}

void Session::CompareWithJournal(const std::shared_ptr<SessionWriter>& writer,
                                 const SessionWrites::Place& begin) {
  int64_t offset = 0;
  std::string bytes;
  {
    absl::MutexLock lock(&mutex_);
    offset = writer->comparison->offset;
    bytes = writer->comparison->bytes;
  }
  // A journal that was cut off meanwhile has nothing to compare with.
  const absl::StatusOr<bool> agrees =
      JournalAgrees(*store_, uid(), begin, UnitBytes(unit()), offset, bytes);
  {
    absl::MutexLock lock(&mutex_);
    if (agrees.ok() && !*agrees) {
      writer->comparison->match = History::Match::kDifferent;
    } else {
      writer->comparison->match = agrees.ok() && offset >= begin.offset
                                      ? History::Match::kSame
                                      : History::Match::kTooOld;
    }
  }
  writer->notifier.Notify();
}

absl::Status Session::CheckSegment(const AppendStream::Segment& segment,
                                   const std::string& bytes) const {
  const auto size = static_cast<int64_t>(bytes.size());
  if (size == 0 || size > kMaxSegmentBytes) {
    return BadField(
        "segment.payload",
        absl::StrCat("found ", size, " bytes for offset ", segment.offset,
                     ", wanted 1 to ", kMaxSegmentBytes));
  }
  if (segment.offset < 0) {
    return BadField("segment.offset", absl::StrCat("found ", segment.offset,
                                                   ", wanted 0 or more"));
  }
  if (segment.crc32c.has_value()) {
    const uint32_t found = Crc32c(bytes);
    if (found != *segment.crc32c) {
      return WithReason(absl::InvalidArgumentError(absl::StrCat(
                            "segment at offset ", segment.offset,
                            ": crc32c is ", found, ", want ", *segment.crc32c)),
                        {.reason = "CRC_MISMATCH",
                         .metadata = {{"offset", absl::StrCat(segment.offset)},
                                      {"found", Hex(found)},
                                      {"expected", Hex(*segment.crc32c)}}});
    }
  }
  return model_->CheckInput(unit(), segment.payload,
                            absl::StrCat("segment at offset ", segment.offset));
}

absl::StatusOr<AppendStream::Taken> Session::Write(
    const SessionWriter& writer, const AppendStream::Segment& segment) {
  {
    // Waiting costs nothing: a segment is looked at when there is room for it.
    absl::MutexLock lock(&mutex_);
    MNEME_RETURN_IF_ERROR(writer.status);
    MNEME_RETURN_IF_ERROR(CheckHot());
    if (!HasRoomFor(PayloadSize(segment.payload))) {
      stalled_ = false;  // if it waits for what failed, that is tried again
      return AppendStream::Taken{.offer = Offer::kLater};
    }
  }
  const std::string bytes = PayloadBytes(segment.payload);
  const absl::Status refused = CheckSegment(segment, bytes);
  if (!refused.ok()) {
    observer_->OnSegment(model_name_, SegmentResult::kRejected, 0);
    return refused;
  }
  Afterwards after;
  Counted counted;
  absl::StatusOr<AppendStream::Taken> taken = [&] {
    absl::MutexLock lock(&mutex_);
    return TakeSegment(writer, segment, bytes, counted, after);
  }();
  Do(after);
  if (counted.result.has_value()) {
    observer_->OnSegment(model_name_, *counted.result, counted.bytes);
  }
  return taken;
}

absl::StatusOr<AppendStream::Taken> Session::TakeSegment(
    const SessionWriter& writer, const AppendStream::Segment& segment,
    const std::string& bytes, Counted& counted, Afterwards& after) {
  AppendStream::Taken taken;
  const auto size = static_cast<int64_t>(bytes.size());
  const auto rejected = [&](SegmentResult result, absl::Status status) {
    counted.result = result;
    return status;
  };
  MNEME_RETURN_IF_ERROR(writer.status);
  MNEME_RETURN_IF_ERROR(CheckHot());
  if (!HasRoomFor(size)) {
    taken.offer = Offer::kLater;
    return taken;
  }
  const int64_t next = hot_->history.next_offset();
  const int64_t unit_bytes = hot_->history.unit_bytes();
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
    const absl::optional<History::Match> match = CompareSegment(
        segment.offset, std::string_view(bytes).substr(0, known_bytes), after);
    if (!match.has_value()) {
      taken.offer = Offer::kLater;
      return taken;
    }
    taken.duplicate = true;
    switch (*match) {
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
    counted.result = SegmentResult::kDuplicate;
    return taken;
  }
  const std::string_view added = std::string_view(bytes).substr(known_bytes);
  if (const absl::Status status =
          hot_->input.CheckText(added, "segment.payload", next);
      !status.ok()) {
    return rejected(SegmentResult::kRejected, status);
  }
  if (const absl::Status status = hot_->input.CheckTurn(
          added, segment.role, segment.end_of_turn, "segment.");
      !status.ok()) {
    return rejected(SegmentResult::kRejected, status);
  }
  if (hot_->input.NearLimit(added.size(), reach_.position)) {
    InputQueue trial = hot_->input;
    trial.BeginTurn(segment.role);
    trial.Append(added);
    if (segment.end_of_turn) trial.EndTurn();
    const absl::Status status = trial.CheckLimit(
        absl::StrCat("segment at offset ", segment.offset), reach_.position);
    if (!status.ok()) return rejected(SegmentResult::kRejected, status);
  }
  if (absl::Status status = CheckQuota(static_cast<int64_t>(added.size()));
      !status.ok()) {
    return rejected(SegmentResult::kRejected, std::move(status));
  }
  InputRecord input{.role = segment.role,
                    .end_of_turn = segment.end_of_turn,
                    .bytes = std::string(added)};
  Accept(input);
  Journal(std::move(input), static_cast<int64_t>(added.size()) / unit_bytes);
  counted = {.result = SegmentResult::kApplied, .bytes = size - known_bytes};
  return taken;
}

bool Session::Writable(const SessionWriter& writer) const {
  absl::MutexLock lock(&mutex_);
  if (!writer.status.ok() || hot_ == nullptr) return true;
  const bool comparing =
      writer.comparison.has_value() && !writer.comparison->match.has_value();
  return !comparing && HasRoomFor(1);
}

absl::Status Session::WriterStatus(const SessionWriter& writer) const {
  absl::MutexLock lock(&mutex_);
  return writer.status;
}

AppendProgress Session::Progress(const SessionWriter& writer) const {
  absl::MutexLock lock(&mutex_);
  return {.absorbed_offset = AbsorbedOffset(),
          .durable_offset = store_->durable() ? writes_.durable().offset : 0,
          .position = reach_.position,
          .tokens = reach_.position - writer.position_at_open,
          .idle = hot_ == nullptr ||
                  (hot_->input.idle() && AbsorbedOffset() == NextOffset())};
}

}  // namespace mneme
