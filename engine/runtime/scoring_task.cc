// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/scoring_task.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/runtime/history.h"
#include "engine/runtime/requests.h"
#include "engine/text/sampler.h"

namespace mneme {
namespace {

// Events that may wait for a slow reader.
constexpr size_t kMaxEvents = 64;

}  // namespace

ScoringTask::ScoringTask(Setup setup, StreamListener* listener)
    : setup_(std::move(setup)),
      arrival_(setup_.clock->Monotonic()),
      notifier_(listener),
      input_(setup_.model.get(), setup_.unit) {}

bool ScoringTask::done() const {
  absl::MutexLock lock(&mutex_);
  return done_;
}

void ScoringTask::PullInput(SessionState& state, HistorySink& history) {
  const bool text = setup_.unit == SessionUnit::kText;
  while (state.tail_room() > 0) {
    const bool begins = text && setup_.model->TextBegins(state.position());
    const auto token = input_.Next(begins, /*ends=*/input_finished_);
    if (!token.has_value()) return;
    const int64_t limit = setup_.model->model->config().token_limit();
    if (limit > 0 && state.position() >= limit) {
      cancelled_.Update(TokenLimit(*setup_.model, "score input", limit));
      input_.Clear();
      input_finished_ = true;
      return;
    }
    if (state.position() == 0) skip_first_ = true;
    state.PushToken(token->id);
    unscored_.push_back({.token = token->id, .offset = history.next_offset()});
    if (text) unscored_bytes_ += static_cast<int64_t>(token->bytes.size());
    // Token by token: should the scoring end early, the history is what the
    // state was given and no more.
    history.RecordToken(token->id, text ? token->bytes : std::string_view());
  }
}

// Adds to the demand for the tail the logits that predict its unscored end.
Demand ScoringTask::ScoreTail(const SessionState& state, Demand demand) {
  const int64_t rows = demand.rows;
  const int64_t first = rows - static_cast<int64_t>(unscored_.size());
  if (unscored_.empty()) return demand;
  demand.prior_logits = first == 0 && state.computed_tokens() > 0;
  demand.logits_begin = std::max<int64_t>(first - 1, 0);
  demand.logits_end = rows - 1;
  return demand;
}

void ScoringTask::Begin() { first_pass_ = setup_.clock->Monotonic(); }

Demand ScoringTask::Plan(SessionState& state, HistorySink& history) {
  absl::MutexLock lock(&mutex_);
  if (done_) return {};
  if (!started_) {
    // A full block before the Ask goes by the path it would have gone anyway.
    if (state.tail_room() == 0) return ComputeTail(state);
    started_ = true;
    begin_offset_ = history.next_offset();
    begin_position_ = state.position();
    state.Ask();
  }
  if (!cancelled_.ok()) {
    input_.Clear();
    input_finished_ = true;
  } else if (events_.size() >= kMaxEvents) {
    paused_since_ = setup_.clock->Monotonic();
    return {};
  }
  PullInput(state, history);
  if (state.tail_room() == 0) return ScoreTail(state, ComputeTail(state));
  if (!input_finished_) return {};
  if (!unscored_.empty()) {
    state.Ask();
    return ScoreTail(state, ComputeTail(state));
  }
  absl::Status status = cancelled_;
  if (status.ok() && input_.cut()) {
    status = BadField("text", "found its end inside a character, wanted UTF-8");
  }
  Finish(status, history.next_offset(), state.position());
  return {};
}

void ScoringTask::OnLogits(ConstRows logits) {
  scored_.clear();
  const size_t skipped = skip_first_ ? 1 : 0;
  for (size_t i = skipped; i < unscored_.size(); ++i) {
    const absl::Span<const float> row(
        logits.row(static_cast<int64_t>(i - skipped)),
        static_cast<size_t>(logits.cols));
    scored_.push_back(unscored_[i]);
    scored_.back().logprob = LogProbability(row, unscored_[i].token);
  }
}

void ScoringTask::OnCommitted(SessionState& state, HistorySink& history) {
  absl::MutexLock lock(&mutex_);
  for (const ScoreEvent::Token& token : scored_) {
    if (std::isnan(token.logprob)) {
      Finish(absl::InternalError("the model's logits are not numbers"),
             history.next_offset(), state.position());
      return;
    }
  }
  for (const ScoreEvent::Token& token : scored_) {
    totals_.logprob_sum += token.logprob;
  }
  totals_.bytes += std::exchange(unscored_bytes_, 0);
  totals_.tokens_scored += static_cast<int64_t>(scored_.size());
  if (std::exchange(skip_first_, false)) ++totals_.tokens_unscored;
  unscored_.clear();
  if (scored_.empty()) return;
  events_.push_back({.kind = ScoreEvent::Kind::kTokens,
                     .tokens = std::move(scored_),
                     .totals = totals_,
                     .status = absl::OkStatus()});
  scored_.clear();
}

void ScoringTask::Finish(const absl::Status& status, int64_t next_offset,
                         int64_t position) {
  if (done_) return;
  if (started_ && !setup_.commit) {  // nothing of it is history
    next_offset = begin_offset_;
    position = begin_position_;
  }
  const absl::Duration queue_time =
      started_ ? first_pass_ - arrival_ : absl::ZeroDuration();
  setup_.observer->OnScored(setup_.model->name, totals_.tokens_scored,
                            queue_time);
  events_.push_back(
      {.kind = ScoreEvent::Kind::kFinished,
       .totals = totals_,
       .status = status,
       .next_offset = next_offset,
       .position = position,
       .queue_time = queue_time,
       .compute_time = setup_.clock->Monotonic() - arrival_ - queue_time,
       .load = setup_.load});
  input_.Clear();
  done_ = true;
  ended_ = status;
  settled_ = !setup_.commit;
}

EndRecord ScoringTask::DescribeEnd() const {
  absl::MutexLock lock(&mutex_);
  return {.status_code = ended_.raw_code(),
          .message = std::string(ended_.message())};
}

absl::optional<RememberedRequest> ScoringTask::DescribeRequest(
    absl::Time now) const {
  absl::MutexLock lock(&mutex_);
  if (!ended_.ok() || events_.empty()) return absl::nullopt;
  return Remember(setup_.request, events_.back(), now);
}

void ScoringTask::Settle(const absl::Status& stored,
                         int64_t /*durable_offset*/) {
  absl::MutexLock lock(&mutex_);
  settled_ = true;
  if (!stored.ok() && done_ && !events_.empty()) {
    events_.back().status = stored;
  }
}

void ScoringTask::Fail(const absl::Status& status, const HistorySink& history,
                       int64_t position) {
  absl::MutexLock lock(&mutex_);
  Finish(status, history.next_offset(), position);
}

void ScoringTask::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_.Update(absl::CancelledError("cancelled"));
}

bool ScoringTask::CancelIfUnread(absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  if (!paused_since_.has_value() || now - *paused_since_ < kReaderPatience) {
    return false;
  }
  cancelled_.Update(WithReason(
      absl::CancelledError(absl::StrCat("nobody took what was scored for ",
                                        absl::FormatDuration(kReaderPatience))),
      {.reason = "SLOW_READER", .metadata = {}}));
  paused_since_.reset();
  return true;
}

absl::StatusOr<Offer> ScoringTask::Write(const Payload& payload) {
  MNEME_RETURN_IF_ERROR(
      setup_.model->CheckInput(setup_.unit, payload, "score input"));
  const int64_t bytes = PayloadSize(payload);
  if (bytes == 0 || bytes > kMaxSegmentBytes) {
    return BadField("message",
                    absl::StrCat("found ", bytes, " bytes, wanted 1 to ",
                                 kMaxSegmentBytes));
  }
  absl::MutexLock lock(&mutex_);
  if (input_finished_) {
    return absl::FailedPreconditionError("score input after its end");
  }
  if (!input_.idle() && input_.size() + bytes > kMaxInflightBytes) {
    return Offer::kLater;
  }
  const std::string input = PayloadBytes(payload);
  MNEME_RETURN_IF_ERROR(input_.CheckText(input, "text"));
  input_.Append(input);
  return Offer::kTaken;
}

void ScoringTask::FinishInput() {
  absl::MutexLock lock(&mutex_);
  input_finished_ = true;
}

absl::optional<ScoreEvent> ScoringTask::Poll(bool* resume) {
  absl::MutexLock lock(&mutex_);
  *resume = false;
  if (events_.empty()) return absl::nullopt;
  if (done_ && !settled_ && events_.size() == 1) return absl::nullopt;
  ScoreEvent event = std::move(events_.front());
  events_.pop_front();
  if (paused_since_.has_value() && events_.size() <= kMaxEvents / 2) {
    paused_since_.reset();
    *resume = true;
  }
  return event;
}

}  // namespace mneme
