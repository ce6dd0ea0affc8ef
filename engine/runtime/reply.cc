// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/reply.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace mneme {
namespace {

// Tokens of which no byte may be seen yet: as many as a stop string has bytes,
// and what of a character comes before it.
constexpr int64_t kMaxHeld = kMaxStopBytes;

constexpr int64_t kMaxEntries =
    Reply::kMaxBytes / static_cast<int64_t>(sizeof(LikelyToken));
constexpr int64_t kMaxStride = 1 + kMaxTopLogprobs;
static_assert(kMaxEntries / kMaxStride > Reply::kMaxUnread + kMaxHeld,
              "a generation that waits never overtakes its reader");

GenerateEvent Lost(absl::Status status) {
  return {.kind = GenerateEvent::Kind::kFinished, .status = std::move(status)};
}

}  // namespace

Reply::Reply(Setup setup)
    : setup_(std::move(setup)),
      stride_(1 + setup_.top_logprobs),
      capacity_(std::min(setup_.max_tokens, kMaxEntries / stride_)),
      ring_(capacity_ * stride_) {}

int64_t Reply::UnitsOf(int32_t token) const {
  if (setup_.unit == SessionUnit::kTokens) return 1;
  return static_cast<int64_t>(setup_.model->tokenizer->Decode(token).size());
}

// -- The task's side ---------------------------------------------------------

void Reply::Begin(int64_t ask_position, int64_t offset) {
  absl::MutexLock lock(&mutex_);
  started_ = GenerateEvent{.kind = GenerateEvent::Kind::kStarted,
                           .ask_position = ask_position,
                           .offset = offset,
                           .status = absl::OkStatus()};
}

void Reply::Add(const LikelyToken& said, absl::Span<const LikelyToken> top,
                int64_t shown_tokens, int64_t shown_units) {
  absl::MutexLock lock(&mutex_);
  if (tokens_ >= capacity_) kept_offset_ += UnitsOf(at(tokens_).token);
  LikelyToken* entry = &ring_[tokens_ % capacity_ * stride_];
  *entry++ = said;
  for (int64_t i = 0; i < setup_.top_logprobs; ++i) {
    *entry++ = i < static_cast<int64_t>(top.size())
                   ? top[i]
                   : LikelyToken{.token = kNoToken};
  }
  ++tokens_;
  shown_tokens_ = shown_tokens;
  shown_units_ = shown_units;
}

bool Reply::Crowded(absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  if (!setup_.waits || reader_ == nullptr ||
      shown_tokens_ - reader_->token < kMaxUnread) {
    return false;
  }
  if (!waiting_since_.has_value()) waiting_since_ = now;
  return true;
}

bool Reply::Stuck(absl::Duration now) const {
  absl::MutexLock lock(&mutex_);
  return waiting_since_.has_value() && now - *waiting_since_ >= kReaderPatience;
}

bool Reply::Finish(GenerateEvent finished, int64_t shown_tokens,
                   int64_t shown_units, bool unsettled) {
  absl::MutexLock lock(&mutex_);
  settled_ = !unsettled;
  shown_tokens_ = shown_tokens;
  shown_units_ = shown_units;
  finished_ = std::move(finished);
  waiting_since_.reset();
  return reader_ != nullptr;
}

void Reply::Settle(const absl::Status& stored, int64_t durable_offset) {
  absl::MutexLock lock(&mutex_);
  settled_ = true;
  if (!finished_.has_value()) return;
  finished_->durable_offset = durable_offset;
  if (!stored.ok()) finished_->status = stored;
}

void Reply::Notify() {
  std::shared_ptr<Reader> reader;
  {
    absl::MutexLock lock(&mutex_);
    reader = reader_;
  }
  if (reader != nullptr) reader->notifier.Notify();
}

// -- The streams' side -------------------------------------------------------

std::shared_ptr<Reply::Reader> Reply::Open(StreamListener* listener) {
  auto reader = std::make_shared<Reader>(listener);
  absl::MutexLock lock(&mutex_);
  reader_ = reader;
  return reader;
}

absl::Status Reply::NotKept(int64_t wanted, int64_t nearest) const {
  return WithReason(
      absl::OutOfRangeError(absl::StrCat(
          "output_offset: found ", wanted,
          ", where no token of the answer that is kept begins; the nearest is ",
          nearest)),
      {.reason = "OFFSET_NOT_KEPT",
       .metadata = {{"nearest_offset", absl::StrCat(nearest)}}});
}

absl::StatusOr<std::shared_ptr<Reply::Reader>> Reply::Attach(
    int64_t output_offset, StreamListener* listener) {
  auto reader = std::make_shared<Reader>(listener);
  reader->attached = true;
  std::shared_ptr<Reader> fenced;
  {
    absl::MutexLock lock(&mutex_);
    const int64_t begin = started_.has_value() ? started_->offset : 0;
    const int64_t wanted = output_offset == 0 ? 0 : output_offset - begin;
    int64_t offset = kept_offset_;
    int64_t nearest = offset;
    int64_t token = first_kept();
    while (offset < wanted && token < tokens_) {
      offset += UnitsOf(at(token++).token);
      if (std::abs(offset - wanted) < std::abs(nearest - wanted)) {
        nearest = offset;
      }
    }
    const bool ahead = setup_.said_again && offset < wanted &&
                       token == tokens_ && !finished_.has_value();
    if (offset != wanted && !ahead) {
      return NotKept(output_offset, begin + nearest);
    }
    reader->skip_to = wanted;
    reader->token = token;
    reader->token_offset = offset;
    reader->offset = offset;
    fenced = std::exchange(reader_, reader);
    waiting_since_.reset();
  }
  if (fenced != nullptr) fenced->notifier.Notify();
  return reader;
}

TokenLogprob Reply::LogprobOf(int64_t token) const {
  const auto make = [this](const LikelyToken& likely) {
    return TokenLogprob{
        .token = likely.token,
        .logprob = likely.logprob,
        .text = setup_.unit == SessionUnit::kText
                    ? setup_.model->tokenizer->Decode(likely.token)
                    : std::string()};
  };
  const LikelyToken* const said = &at(token);
  TokenLogprob logprob = make(*said);
  for (int64_t i = 1; i < stride_ && said[i].token != kNoToken; ++i) {
    logprob.top.push_back(make(said[i]));
  }
  return logprob;
}

GenerateEvent Reply::Output(Reader& reader) const {
  GenerateEvent event{.kind = GenerateEvent::Kind::kOutput,
                      .status = absl::OkStatus()};
  const int32_t token = at(reader.token).token;
  const bool whole = reader.token < shown_tokens_;
  const int64_t end =
      whole ? reader.token_offset + UnitsOf(token) : shown_units_;
  if (setup_.unit == SessionUnit::kText) {
    event.text = setup_.model->tokenizer->Decode(token).substr(
        reader.offset - reader.token_offset, end - reader.offset);
  }
  reader.offset = end;
  if (whole) {
    event.token = token;
    if (setup_.logprobs) event.logprob = LogprobOf(reader.token);
    reader.token_offset = end;
    ++reader.token;
  }
  return event;
}

absl::optional<GenerateEvent> Reply::Poll(Reader& reader, bool* resume) {
  *resume = false;
  absl::MutexLock lock(&mutex_);
  if (reader.ended) return absl::nullopt;
  if (&reader != reader_.get()) {
    reader.ended = true;
    return Lost(WithReason(
        absl::AbortedError("another stream reads this generation now"),
        {.reason = "TAKEN_OVER", .metadata = {}}));
  }
  if (started_.has_value() && !reader.started) {
    reader.started = true;
    GenerateEvent event = *started_;
    event.attached = reader.attached;
    return event;
  }
  while (reader.offset < reader.skip_to && reader.token < shown_tokens_ &&
         reader.token >= first_kept()) {
    reader.token_offset += UnitsOf(at(reader.token++).token);
    reader.offset = reader.token_offset;
    if (reader.offset > reader.skip_to) {
      reader.ended = true;
      return Lost(NotKept(started_->offset + reader.skip_to,
                          started_->offset + reader.offset));
    }
  }
  const bool skips = reader.offset < reader.skip_to;
  if (reader.token < shown_tokens_ ||
      (!skips && reader.offset < shown_units_)) {
    if (reader.token < first_kept()) {
      reader.ended = true;
      const int64_t begin = started_->offset;
      return Lost(NotKept(begin + reader.offset, begin + kept_offset_));
    }
    GenerateEvent event = Output(reader);
    if (waiting_since_.has_value() &&
        shown_tokens_ - reader.token <= kMaxUnread / 2) {
      waiting_since_.reset();
      *resume = true;
    }
    return event;
  }
  if (!finished_.has_value() || !settled_) return absl::nullopt;
  reader.ended = true;
  GenerateEvent event = *finished_;
  // To one that asks what became of it a cancellation is an answer.
  if (reader.attached && absl::IsCancelled(event.status)) {
    event.status = absl::OkStatus();
  }
  return event;
}

Reply::Left Reply::Leave(const std::shared_ptr<Reader>& reader) {
  absl::MutexLock lock(&mutex_);
  if (reader != reader_) return Left::kTakenOver;
  reader_ = nullptr;
  return finished_.has_value() ? Left::kFinished : Left::kRunning;
}

bool Reply::NeverBegan() const {
  absl::MutexLock lock(&mutex_);
  return finished_.has_value() && !started_.has_value();
}

bool Reply::finished() const {
  absl::MutexLock lock(&mutex_);
  return finished_.has_value();
}

}  // namespace mneme
