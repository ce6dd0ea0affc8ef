// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/generation_task.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/base/errors.h"

namespace mneme {
namespace {

// Events that may wait for a slow reader before its generation pauses.
constexpr size_t kMaxEvents = 256;

}  // namespace

GenerationTask::GenerationTask(GenerateOptions options, Setup setup,
                               StreamListener* listener)
    : options_(std::move(options)),
      setup_(std::move(setup)),
      arrival_(setup_.clock->Monotonic()),
      notifier_(listener),
      sampler_(
          {.temperature = options_.sampling.temperature, .seed = setup_.seed},
          setup_.model->model->config().vocab_size,
          setup_.model->sayable(setup_.unit)) {
  stats_.seed = options_.sampling.temperature > 0 ? setup_.seed : 0;
}

bool GenerationTask::done() const { return phase_ == Phase::kDone; }

void GenerationTask::Begin() {
  first_pass_ = setup_.clock->Monotonic();
  stats_.queue_time = first_pass_ - arrival_;
}

Demand GenerationTask::Plan(SessionState& state, HistorySink& history) {
  absl::MutexLock lock(&mutex_);
  if (phase_ == Phase::kAsk) {
    stats_.prompt_tokens = prompt_tokens();
    if (state.tail_room() == 0) return ComputeTail(state);
    if (state.position() == 0) {
      Finish(WithReason(absl::FailedPreconditionError(
                            "the session has no history to go on from"),
                        {.reason = "NO_HISTORY", .metadata = {}}),
             history.next_offset(), 0);
      return {};
    }
    // The Ask counts from here on, whatever becomes of it.
    state.Ask();
    events_.push_back({.kind = GenerateEvent::Kind::kStarted,
                       .ask_position = state.position(),
                       .offset = history.next_offset(),
                       .status = absl::OkStatus()});
    phase_ = Phase::kDecode;
  }
  if (phase_ == Phase::kDecode && cancelled_) {
    reason_ = FinishReason::kCancelled;
    phase_ = Phase::kFlush;
    // The tail before the first token belongs to the Ask.
    if (stats_.generated_tokens == 0 && !state.tail().empty()) {
      return ComputeTail(state);
    }
  }
  if (phase_ == Phase::kFlush) {
    if (state.tail_room() == 0) return ComputeTail(state);
    Finish(absl::OkStatus(), history.next_offset(), state.position());
  }
  if (phase_ != Phase::kDecode) return {};
  if (events_.size() >= kMaxEvents) {
    // No full block is left behind: a session at rest can always be described.
    if (state.tail_room() == 0) return ComputeTail(state);
    paused_ = true;
    return {};
  }
  state.Ask();
  sampling_ = true;
  sample_position_ = state.position();
  const int64_t rows = static_cast<int64_t>(state.tail().size());
  return {.kind = Demand::Kind::kStep,
          .rows = rows,
          .prior_logits = rows == 0,
          .logits_begin = std::max<int64_t>(rows - 1, 0),
          .logits_end = rows};
}

void GenerationTask::OnLogits(ConstRows logits) {
  if (!sampling_) return;
  const absl::Span<const float> row(logits.row(0),
                                    static_cast<size_t>(logits.cols));
  sampled_ = sampler_.Sample(row, {}, sample_position_);
  sampled_logprob_ = options_.logprobs && sampled_.has_value()
                         ? LogProbability(row, *sampled_)
                         : 0.0f;
}

bool GenerationTask::IsStop(int32_t token) const {
  const auto is = [token](absl::Span<const int32_t> ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  if (is(options_.stop_tokens)) return true;
  return !options_.ignore_eos && is(setup_.model->model->config().eos_tokens);
}

void GenerationTask::OnCommitted(SessionState& state, HistorySink& history) {
  if (!std::exchange(sampling_, false)) return;
  if (!sampled_.has_value()) {
    Fail(absl::InternalError("the model's logits are not numbers"), history,
         state.position());
    return;
  }
  const int32_t token = *sampled_;
  std::string text = setup_.unit == SessionUnit::kText
                         ? setup_.model->tokenizer->Decode(token)
                         : std::string();
  history.RecordToken(token, text);
  state.PushToken(token);

  const absl::Duration now = setup_.clock->Monotonic();
  if (stats_.generated_tokens == 0) first_token_ = now;
  setup_.observer->OnTokenGenerated(
      setup_.model->name,
      now - (stats_.generated_tokens == 0 ? first_pass_ : last_token_));
  last_token_ = now;
  ++stats_.generated_tokens;

  absl::MutexLock lock(&mutex_);
  if (IsStop(token)) {
    reason_ = FinishReason::kStop;
    stop_token_ = token;
    phase_ = Phase::kFlush;
    return;  // history, but not part of the reply
  }
  events_.push_back({.kind = GenerateEvent::Kind::kToken,
                     .token = token,
                     .text = std::move(text),
                     .logprob = sampled_logprob_,
                     .status = absl::OkStatus()});
  if (stats_.generated_tokens >= options_.max_tokens) phase_ = Phase::kFlush;
}

void GenerationTask::Finish(const absl::Status& status, int64_t next_offset,
                            int64_t position) {
  if (done_) return;
  if (stats_.generated_tokens > 0) {
    stats_.prefill_time = first_token_ - first_pass_;
    stats_.decode_time = last_token_ - first_token_;
    stats_.time_to_first_token = first_token_ - arrival_;
  }
  setup_.observer->OnGenerationFinished(setup_.model->name, status.ok(),
                                        reason_, stats_);
  events_.push_back({.kind = GenerateEvent::Kind::kFinished,
                     .status = status,
                     .reason = reason_,
                     .next_offset = next_offset,
                     .position = position,
                     .stop_token = stop_token_,
                     .stats = stats_});
  phase_ = Phase::kDone;
  done_ = true;
}

void GenerationTask::Fail(const absl::Status& status,
                          const HistorySink& history, int64_t position) {
  absl::MutexLock lock(&mutex_);
  Finish(status, history.next_offset(), position);
}

void GenerationTask::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
}

absl::optional<GenerateEvent> GenerationTask::Poll(bool* resume) {
  absl::MutexLock lock(&mutex_);
  *resume = false;
  if (events_.empty()) return absl::nullopt;
  GenerateEvent event = std::move(events_.front());
  events_.pop_front();
  if (paused_ && events_.size() <= kMaxEvents / 2) {
    paused_ = false;
    *resume = true;
  }
  return event;
}

}  // namespace mneme
