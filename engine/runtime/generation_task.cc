// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/generation_task.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/runtime/generate_options_coding.h"
#include "engine/runtime/input_queue.h"

namespace mneme {

Sampling MakeSampling(const SamplingOptions& options, uint64_t seed) {
  Sampling sampling{
      .temperature = options.temperature,
      .top_k = options.top_k,
      .top_p = options.top_p,
      .min_p = options.min_p,
      .typical_p = options.typical_p,
      .repetition_penalty = options.repetition_penalty,
      .presence_penalty = options.presence_penalty,
      .frequency_penalty = options.frequency_penalty,
      .logit_bias = {options.logit_bias.begin(), options.logit_bias.end()},
      .seed = seed};
  if (options.penalty_window_tokens > 0) {
    sampling.penalty_window_tokens = options.penalty_window_tokens;
  }
  return sampling;
}

GenerationTask::GenerationTask(GenerateOptions options, Setup setup)
    : options_(std::move(options)),
      setup_(std::move(setup)),
      arrival_(setup_.clock->Monotonic()),
      sampler_(MakeSampling(options_.sampling, setup_.seed),
               setup_.model->model->config().vocab_size,
               setup_.model->sayable(setup_.unit)),
      filter_(options_.stop) {
  recent_.reserve(sampler_.window_tokens());
  top_.reserve(options_.top_logprobs);
  stats_.seed = options_.sampling.temperature > 0 ? setup_.seed : 0;
  stats_.load = setup_.load;
}

AskRecord GenerationTask::DescribeAsk() const {
  AskRecord ask{.kind = AskRecord::Kind::kGenerate,
                .request_id = options_.request_id,
                .request_digest = options_.request_digest};
  EncodeGenerateOptions(options_, setup_.seed, ask.options);
  return ask;
}

EndRecord GenerationTask::DescribeEnd() const {
  return {.reason = static_cast<uint8_t>(reason_),
          .status_code = ended_.raw_code(),
          .message = std::string(ended_.message())};
}

void GenerationTask::Resume() {
  suspended_ = false;
  absl::MutexLock lock(&mutex_);
  resumed_ = true;
}

bool GenerationTask::done() const { return phase_ == Phase::kDone; }

void GenerationTask::Begin() {
  first_pass_ = setup_.clock->Monotonic();
  stats_.queue_time = first_pass_ - arrival_;
}

Demand GenerationTask::Plan(SessionState& state, HistorySink& history) {
  const absl::Duration now = setup_.clock->Monotonic();
  sampling_ = false;  // the pass that was planned last may never have begun
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
    if (AtLimit(state.position())) {
      Finish(TokenLimit(*setup_.model, "the answer", state.position()),
             history.next_offset(), state.position());
      return {};
    }
    // The Ask counts from here on, whatever becomes of it.
    state.Ask();
    setup_.reply->Begin(state.position(), history.next_offset());
    phase_ = Phase::kDecode;
  }
  if (phase_ == Phase::kDecode) {
    ReplayAhead(state, history);
    if (phase_ == Phase::kDecode && setup_.replayed.has_value() && !replays()) {
      EndAsBefore(state);
      if (suspended_) return {};
    }
  }
  if (const absl::optional<Cancellation> why = cancellation();
      why.has_value() && phase_ == Phase::kDecode && !replays()) {
    failed_ = why->status;
    reason_ = why->reason;
    phase_ = Phase::kFlush;
  }
  if (phase_ == Phase::kFlush) {
    // The tail before the first token belongs to the Ask.
    const bool asked = stats_.generated_tokens == 0 && !state.tail().empty() &&
                       state.computed_tokens() < end_computed_tokens_;
    if (asked || state.tail_room() == 0) return ComputeTail(state);
    Finish(failed_, history.next_offset(), state.position());
  }
  if (phase_ != Phase::kDecode) return {};
  if (!replays() && setup_.reply->Crowded(now)) {
    // No full block is left behind: a session at rest can always be described.
    if (state.tail_room() == 0) return ComputeTail(state);
    return {};
  }
  sampling_ = true;
  sample_position_ = state.position();
  state.CopyRecent(sampler_.window_tokens(), recent_);
  const int64_t rows = static_cast<int64_t>(state.tail().size());
  return {.kind = Demand::Kind::kStep,
          .rows = rows,
          .prior_logits = rows == 0,
          .logits_begin = std::max<int64_t>(rows - 1, 0),
          .logits_end = rows};
}

void GenerationTask::ReplayAhead(SessionState& state, HistorySink& history) {
  if (options_.logprobs) return;  // wants the logits of each
  while (phase_ == Phase::kDecode && state.tail_room() > 0 &&
         next_said_ + 1 < said_before().size()) {
    TakeToken(said_before()[next_said_].id, state, history);
    ++next_said_;
  }
}

void GenerationTask::EndAsBefore(const SessionState& state) {
  const absl::optional<EndRecord>& end = setup_.replayed->end;
  if (!end.has_value()) {
    absl::MutexLock lock(&mutex_);
    suspended_ = !resumed_;
    return;
  }
  reason_ = static_cast<FinishReason>(end->reason);
  if (end->status_code != 0) {
    failed_ = absl::Status(static_cast<absl::StatusCode>(end->status_code),
                           end->message);
  }
  end_computed_tokens_ =
      std::max(end->computed_tokens, state.computed_tokens());
  phase_ = Phase::kFlush;
}

void GenerationTask::OnLogits(ConstRows logits) {
  if (!sampling_) return;
  const absl::Span<const float> row(logits.row(0),
                                    static_cast<size_t>(logits.cols));
  sampled_ = replays() ? said_before()[next_said_].id
                       : sampler_.Sample(row, recent_, sample_position_);
  if (!sampled_.has_value()) return;
  said_ = {.token = *sampled_};
  if (options_.logprobs) {
    said_.logprob = LogProbability(row, *sampled_);
    TopLogProbabilities(row, options_.top_logprobs, top_);
  }
}

bool GenerationTask::AtLimit(int64_t position) const {
  const int64_t limit = setup_.model->model->config().token_limit();
  return limit > 0 && position >= limit;
}

bool GenerationTask::IsStop(int32_t token) const {
  const auto is = [token](absl::Span<const int32_t> ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  if (is(options_.stop_tokens)) return true;
  return !options_.ignore_eos && setup_.model->Ends(token);
}

bool GenerationTask::Show(std::string_view text) {
  ++said_tokens_;
  return setup_.unit == SessionUnit::kTokens || filter_.Add(text);
}

int64_t GenerationTask::shown_tokens() const {
  return setup_.unit == SessionUnit::kTokens ? said_tokens_
                                             : filter_.shown_tokens();
}

int64_t GenerationTask::shown_units() const {
  return setup_.unit == SessionUnit::kTokens ? said_tokens_
                                             : filter_.shown_bytes();
}

void GenerationTask::OnCommitted(SessionState& state, HistorySink& history) {
  if (!std::exchange(sampling_, false)) return;
  if (!sampled_.has_value()) {
    Fail(absl::InternalError("the model's logits are not numbers"), history,
         state.position());
    return;
  }
  TakeToken(*sampled_, state, history);
  if (replays()) ++next_said_;
}

void GenerationTask::TakeToken(int32_t token, SessionState& state,
                               HistorySink& history) {
  said_.token = token;
  const std::string text = setup_.unit == SessionUnit::kText
                               ? setup_.model->tokenizer->Decode(token)
                               : std::string();
  history.RecordToken(token, text);
  state.PushToken(token);
  // A block in which something was said goes by the step path to its end,
  // whether more is said or not.
  state.Ask();

  const absl::Duration now = setup_.clock->Monotonic();
  if (stats_.generated_tokens == 0) first_token_ = now;
  if (!replays()) {
    setup_.observer->OnTokenGenerated(
        setup_.model->name,
        now - (stats_.generated_tokens == 0 ? first_pass_ : last_token_));
  }
  last_token_ = now;
  ++stats_.generated_tokens;

  if (IsStop(token)) {  // history, but not part of the reply
    reason_ = FinishReason::kStop;
    stop_token_ = token;
    phase_ = Phase::kFlush;
  } else if (!Show(text)) {
    reason_ = FinishReason::kStop;
    phase_ = Phase::kFlush;
  } else if (stats_.generated_tokens >= options_.max_tokens ||
             AtLimit(state.position())) {
    phase_ = Phase::kFlush;
  }
  setup_.reply->Add(said_, top_, shown_tokens(), shown_units());
}

void GenerationTask::Finish(const absl::Status& status, int64_t next_offset,
                            int64_t position) {
  if (phase_ == Phase::kDone) return;
  phase_ = Phase::kDone;
  suspended_ = false;
  ended_ = status;
  if (stats_.generated_tokens > 0) {
    stats_.prefill_time = first_token_ - first_pass_;
    stats_.decode_time = last_token_ - first_token_;
    stats_.time_to_first_token = first_token_ - arrival_;
  }
  const bool counted = setup_.replayed.has_value() &&
                       (setup_.replayed->end.has_value() || replays());
  if (!counted) {
    setup_.observer->OnGenerationFinished(
        setup_.model->name, status.ok() || absl::IsCancelled(status), reason_,
        stats_);
  }
  filter_.Finish();
  const bool read =
      setup_.reply->Finish({.kind = GenerateEvent::Kind::kFinished,
                            .status = status,
                            .reason = reason_,
                            .next_offset = next_offset,
                            .position = position,
                            .stop = filter_.stop(),
                            .stop_token = stop_token_,
                            .stats = stats_},
                           shown_tokens(), shown_units(),
                           /*unsettled=*/commits());
  if (!read) setup_.on_unread_end(*this);
}

void GenerationTask::Fail(const absl::Status& status,
                          const HistorySink& history, int64_t position) {
  Finish(status, history.next_offset(), position);
}

absl::optional<GenerationTask::Cancellation> GenerationTask::cancellation()
    const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

void GenerationTask::CancelFor(FinishReason reason) {
  absl::MutexLock lock(&mutex_);
  if (!cancelled_.has_value()) cancelled_ = {reason, absl::OkStatus()};
}

bool GenerationTask::CancelIfUnread(absl::Duration now) {
  if (!setup_.reply->Stuck(now)) return false;
  absl::MutexLock lock(&mutex_);
  if (cancelled_.has_value()) return false;
  cancelled_ = {FinishReason::kCancelled,
                WithReason(absl::CancelledError(absl::StrCat(
                               "nobody took what was generated for ",
                               absl::FormatDuration(kReaderPatience))),
                           {.reason = "SLOW_READER", .metadata = {}})};
  return true;
}

}  // namespace mneme
