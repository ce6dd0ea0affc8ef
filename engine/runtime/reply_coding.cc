// SPDX-License-Identifier: Apache-2.0
//
// A finished reply as bytes. engine/state/FORMAT.md has the grammar.
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_coder.h"
#include "engine/base/check.h"
#include "engine/runtime/reply.h"
#include "engine/runtime/status_coding.h"

namespace mneme {
namespace {

constexpr int64_t kEntryBytes = 8;  // of a LikelyToken

void EncodeStats(const GenerateStats& stats, ByteWriter& out) {
  out.I64(stats.prompt_tokens);
  out.I64(stats.generated_tokens);
  EncodeDuration(stats.queue_time, out);
  EncodeDuration(stats.prefill_time, out);
  EncodeDuration(stats.decode_time, out);
  EncodeDuration(stats.time_to_first_token, out);
  out.U64(stats.seed);
}

GenerateStats DecodeStats(ByteReader& in) {
  GenerateStats stats;
  stats.prompt_tokens = in.Count();
  stats.generated_tokens = in.Count();
  stats.queue_time = DecodeDuration(in);
  stats.prefill_time = DecodeDuration(in);
  stats.decode_time = DecodeDuration(in);
  stats.time_to_first_token = DecodeDuration(in);
  stats.seed = in.U64();
  return stats;
}

void EncodeFinished(const GenerateEvent& event, ByteWriter& out) {
  EncodeStatus(event.status, out);
  out.U8(static_cast<uint8_t>(event.reason));
  out.I64(event.next_offset);
  out.I64(event.position);
  out.Bytes(event.stop);
  out.Bool(event.stop_token.has_value());
  if (event.stop_token.has_value()) {
    out.U32(static_cast<uint32_t>(*event.stop_token));
  }
  EncodeStats(event.stats, out);
}

GenerateEvent DecodeFinished(ByteReader& in) {
  GenerateEvent event{.kind = GenerateEvent::Kind::kFinished,
                      .status = DecodeStatus(in)};
  const uint8_t reason = in.U8();
  if (reason > static_cast<uint8_t>(FinishReason::kDeadline)) in.Fail();
  event.reason = static_cast<FinishReason>(reason);
  event.next_offset = in.Count();
  event.position = in.Count();
  event.stop = in.String();
  if (in.Bool()) event.stop_token = static_cast<int32_t>(in.U32());
  event.stats = DecodeStats(in);
  return event;
}

absl::Status Damaged(const std::string& what) {
  return absl::DataLossError(absl::StrCat("kept reply: ", what));
}

}  // namespace

void Reply::Encode(std::string& out) const {
  ByteWriter writer(out);
  absl::MutexLock lock(&mutex_);
  MNEME_CHECK(finished_.has_value());
  writer.Bool(setup_.unit == SessionUnit::kTokens);
  writer.I64(setup_.max_tokens);
  writer.Bool(setup_.logprobs);
  writer.I64(setup_.top_logprobs);
  writer.Bool(setup_.waits);
  writer.Bool(started_.has_value());
  if (started_.has_value()) {
    writer.I64(started_->ask_position);
    writer.I64(started_->offset);
  }
  EncodeFinished(*finished_, writer);
  writer.I64(tokens_);
  writer.I64(kept_offset_);
  writer.I64(shown_tokens_);
  writer.I64(shown_units_);
  for (int64_t token = first_kept(); token < tokens_; ++token) {
    const LikelyToken* const entries = &at(token);
    for (int64_t i = 0; i < stride_; ++i) {
      writer.U32(static_cast<uint32_t>(entries[i].token));
      writer.F32(entries[i].logprob);
    }
  }
}

absl::StatusOr<std::shared_ptr<Reply>> Reply::Decode(
    std::string_view in, std::shared_ptr<const ServedModel> model,
    SessionUnit unit) {
  ByteReader reader(in);
  Setup setup{.model = std::move(model), .unit = unit};
  const bool counts_tokens = reader.Bool();
  setup.max_tokens = reader.Count();
  setup.logprobs = reader.Bool();
  setup.top_logprobs = reader.Count();
  setup.waits = reader.Bool();
  if (!reader.ok() || counts_tokens != (unit == SessionUnit::kTokens) ||
      setup.max_tokens == 0 || setup.top_logprobs > kMaxTopLogprobs) {
    return Damaged("found no request that it could answer");
  }
  auto reply = std::make_shared<Reply>(std::move(setup));
  absl::MutexLock lock(&reply->mutex_);
  if (reader.Bool()) {
    GenerateEvent started{.kind = GenerateEvent::Kind::kStarted,
                          .status = absl::OkStatus()};
    started.ask_position = reader.Count();
    started.offset = reader.Count();
    reply->started_ = std::move(started);
  }
  reply->finished_ = DecodeFinished(reader);
  reply->tokens_ = reader.Count();
  reply->kept_offset_ = reader.Count();
  reply->shown_tokens_ = reader.Count();
  reply->shown_units_ = reader.Count();
  const int64_t first = reply->first_kept();
  if (!reader.ok() ||
      static_cast<int64_t>(reader.left()) !=
          (reply->tokens_ - first) * reply->stride_ * kEntryBytes) {
    return Damaged("found a torn record");
  }
  for (int64_t token = first; token < reply->tokens_; ++token) {
    LikelyToken* const entries =
        &reply->ring_[token % reply->capacity_ * reply->stride_];
    for (int64_t i = 0; i < reply->stride_; ++i) {
      entries[i].token = static_cast<int32_t>(reader.U32());
      entries[i].logprob = reader.F32();
    }
  }
  const std::string wrong = reply->WhatIsWrong();
  if (!wrong.empty()) return Damaged(wrong);
  return reply;
}

std::string Reply::WhatIsWrong() const {
  const ServedModel& model = *setup_.model;
  const int64_t vocab_size = model.model != nullptr
                                 ? model.model->config().vocab_size
                                 : std::numeric_limits<int32_t>::max();
  const auto known = [vocab_size](int32_t token) {
    return token >= 0 && token < vocab_size;
  };
  if (finished_->stop.size() > kMaxStopBytes ||
      (finished_->stop_token.has_value() && !known(*finished_->stop_token))) {
    return "found a stop that none can have";
  }
  if (tokens_ > setup_.max_tokens || shown_tokens_ > tokens_ ||
      (!started_.has_value() && tokens_ > 0)) {
    return absl::StrCat("found ", shown_tokens_, " of ", tokens_,
                        " tokens to be seen, wanted up to ", setup_.max_tokens);
  }
  const int64_t first = first_kept();
  for (int64_t token = first; token < tokens_; ++token) {
    const LikelyToken* const entries = &at(token);
    bool ended = false;
    for (int64_t i = 0; i < stride_; ++i) {
      ended = ended || (i > 0 && entries[i].token == kNoToken);
      if (ended ? entries[i].token != kNoToken : !known(entries[i].token)) {
        return absl::StrCat("found token ", entries[i].token);
      }
    }
  }
  const bool counts_tokens = setup_.unit == SessionUnit::kTokens;
  if (first == 0 ? kept_offset_ != 0 : counts_tokens && kept_offset_ != first) {
    return absl::StrCat("found the first kept token at ", kept_offset_);
  }
  // What is shown ends with a token, or inside the next.
  int64_t least = 0;
  int64_t most = kept_offset_;
  if (shown_tokens_ >= first) {
    least = kept_offset_;
    for (int64_t token = first; token < shown_tokens_; ++token) {
      least += UnitsOf(at(token).token);
    }
    most = least;
    if (shown_tokens_ < tokens_) most += UnitsOf(at(shown_tokens_).token);
  }
  if (shown_units_ < least || shown_units_ > most) {
    return absl::StrCat("found ", shown_units_, " units to be seen, wanted ",
                        least, " to ", most);
  }
  return "";
}

}  // namespace mneme
