// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/requests.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/resource_id.h"
#include "engine/base/status_macros.h"
#include "engine/runtime/history.h"
#include "engine/state/session_state.h"

namespace mneme {
namespace {

constexpr size_t kMaxLabels = 64;
constexpr size_t kMaxLabelKey = 63;
constexpr size_t kMaxLabelValue = 256;
constexpr absl::Duration kMaxTtl = absl::Hours(24 * 365 * 10);
constexpr size_t kMaxRequestId = 64;
constexpr size_t kMaxStopStrings = 16;
constexpr size_t kMaxStopTokens = 64;
constexpr size_t kMaxBiases = 1024;

bool IsLabelKey(const std::string& key) {
  if (key.empty() || key.size() > kMaxLabelKey) return false;
  if (!absl::ascii_islower(static_cast<unsigned char>(key[0]))) return false;
  return std::all_of(key.begin(), key.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return absl::ascii_islower(u) || absl::ascii_isdigit(u) || c == '.' ||
           c == '_' || c == '-';
  });
}

// The size of a prompt.
absl::Status CheckPrompt(const Payload& prompt) {
  const int64_t bytes = PayloadSize(prompt);
  if (bytes <= kMaxSegmentBytes) return absl::OkStatus();
  return BadField("prompt", absl::StrCat("found ", bytes, " bytes, wanted ",
                                         kMaxSegmentBytes, " at most"));
}

// `number` is no NaN, and lies in [low, high], without low if `above_low`.
struct Range {
  double low = 0;
  double high = 0;
  bool above_low = false;
};
absl::Status CheckRange(const std::string& field, double number,
                        const Range& range) {
  if (number <= range.high &&
      (range.above_low ? number > range.low : number >= range.low)) {
    return absl::OkStatus();
  }
  return BadField(field, absl::StrCat("found ", number, ", wanted ",
                                      range.above_low ? "above " : "",
                                      range.low, " to ", range.high));
}

absl::Status CheckCount(const std::string& field, size_t count, size_t most) {
  if (count <= most) return absl::OkStatus();
  return BadField(field,
                  absl::StrCat("found ", count, ", wanted ", most, " at most"));
}

absl::Status CheckToken(const std::string& field, int32_t token,
                        int64_t vocab_size) {
  if (token >= 0 && token < vocab_size) return absl::OkStatus();
  return BadField(field, absl::StrCat("found token ", token, ", wanted 0 to ",
                                      vocab_size - 1));
}

absl::Status CheckSampling(const SamplingOptions& sampling,
                           int64_t vocab_size) {
  const struct {
    const char* field;
    double number;
    Range range;
  } numbers[] = {
      {"temperature", sampling.temperature, {0, 100}},
      {"top_k",
       static_cast<double>(sampling.top_k),
       {0, static_cast<double>(vocab_size)}},
      {"top_p", sampling.top_p, {0, 1, true}},
      {"min_p", sampling.min_p, {0, 1}},
      {"typical_p", sampling.typical_p, {0, 1, true}},
      {"repetition_penalty", sampling.repetition_penalty, {0, 10, true}},
      {"presence_penalty", sampling.presence_penalty, {-10, 10}},
      {"frequency_penalty", sampling.frequency_penalty, {-10, 10}},
      {"penalty_window_tokens",
       static_cast<double>(sampling.penalty_window_tokens),
       {0, static_cast<double>(SessionState::kRecentTokens)}},
  };
  for (const auto& [field, number, range] : numbers) {
    MNEME_RETURN_IF_ERROR(
        CheckRange(absl::StrCat("sampling.", field), number, range));
  }
  constexpr char kBias[] = "sampling.logit_bias";
  MNEME_RETURN_IF_ERROR(
      CheckCount(kBias, sampling.logit_bias.size(), kMaxBiases));
  for (const auto& [token, bias] : sampling.logit_bias) {
    MNEME_RETURN_IF_ERROR(CheckToken(kBias, token, vocab_size));
    MNEME_RETURN_IF_ERROR(CheckRange(kBias, bias, {-100, 100}));
  }
  return absl::OkStatus();
}

absl::Status CheckStops(const GenerateOptions& options, SessionUnit unit,
                        int64_t vocab_size) {
  if (unit == SessionUnit::kTokens && !options.stop.empty()) {
    return BadField("stop", absl::StrCat("found ", options.stop.size(),
                                         " in a token session, wanted none"));
  }
  MNEME_RETURN_IF_ERROR(
      CheckCount("stop", options.stop.size(), kMaxStopStrings));
  for (const std::string& stop : options.stop) {
    if (stop.empty() || static_cast<int64_t>(stop.size()) > kMaxStopBytes) {
      return BadField("stop",
                      absl::StrCat("found one of ", stop.size(),
                                   " bytes, wanted 1 to ", kMaxStopBytes));
    }
  }
  MNEME_RETURN_IF_ERROR(
      CheckCount("stop_token_ids", options.stop_tokens.size(), kMaxStopTokens));
  for (const int32_t token : options.stop_tokens) {
    MNEME_RETURN_IF_ERROR(CheckToken("stop_token_ids", token, vocab_size));
  }
  return absl::OkStatus();
}

// Who may attach to what.
absl::Status CheckReattaching(const GenerateOptions& options) {
  const std::string& id = options.request_id;
  if (id.size() > kMaxRequestId) {
    return BadField("request_id",
                    absl::StrCat("found ", id.size(), " characters, wanted ",
                                 kMaxRequestId, " at most"));
  }
  if (!options.commit && !id.empty()) {
    return BadField("request_id",
                    "found one with commit = false, wanted none: such an "
                    "answer is not kept");
  }
  if (!options.commit && options.on_disconnect == OnDisconnect::kFinish) {
    return BadField("on_disconnect",
                    "found FINISH with commit = false, wanted CANCEL: nothing "
                    "would be left of the answer");
  }
  if (options.output_offset < 0) {
    return BadField(
        "output_offset",
        absl::StrCat("found ", options.output_offset, ", wanted 0 or more"));
  }
  if (options.output_offset > 0 && id.empty()) {
    return BadField("output_offset",
                    absl::StrCat("found ", options.output_offset,
                                 " without a request_id, wanted 0"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckId(const std::string& field, const std::string& id) {
  if (IsResourceId(id)) return absl::OkStatus();
  return BadField(field,
                  absl::StrCat("found \"", absl::CHexEscape(id.substr(0, 256)),
                               "\", wanted ", kResourceIdPattern));
}

absl::Status CheckLabels(const std::map<std::string, std::string>& labels) {
  constexpr char kField[] = "session.labels";
  if (labels.size() > kMaxLabels) {
    return BadField(kField, absl::StrCat("found ", labels.size(), ", wanted ",
                                         kMaxLabels, " at most"));
  }
  for (const auto& [key, value] : labels) {
    const std::string shown = absl::CHexEscape(key.substr(0, 2 * kMaxLabelKey));
    if (!IsLabelKey(key)) {
      return BadField(kField,
                      absl::StrCat("found the key \"", shown,
                                   "\", wanted [a-z][a-z0-9._-]{0,62}"));
    }
    if (value.size() > kMaxLabelValue) {
      return BadField(kField,
                      absl::StrCat("found ", value.size(), " bytes for ", shown,
                                   ", wanted ", kMaxLabelValue, " at most"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTtl(absl::Duration ttl) {
  if (ttl == absl::ZeroDuration() ||
      (ttl >= absl::Seconds(1) && ttl <= kMaxTtl)) {
    return absl::OkStatus();
  }
  return BadField("session.ttl",
                  absl::StrCat("found ", absl::FormatDuration(ttl),
                               ", wanted 0 (never) or 1s to ",
                               absl::FormatDuration(kMaxTtl)));
}

absl::Status CheckGenerate(const GenerateOptions& options, SessionUnit unit,
                           int64_t vocab_size) {
  if (options.max_tokens < 1) {
    return BadField("max_tokens", absl::StrCat("found ", options.max_tokens,
                                               ", wanted at least 1"));
  }
  MNEME_RETURN_IF_ERROR(CheckSampling(options.sampling, vocab_size));
  MNEME_RETURN_IF_ERROR(CheckStops(options, unit, vocab_size));
  MNEME_RETURN_IF_ERROR(CheckRange("top_logprobs",
                                   static_cast<double>(options.top_logprobs),
                                   {0, kMaxTopLogprobs}));
  if (options.top_logprobs > 0 && !options.logprobs) {
    return BadField("top_logprobs",
                    absl::StrCat("found ", options.top_logprobs,
                                 " without logprobs, wanted 0"));
  }
  MNEME_RETURN_IF_ERROR(CheckReattaching(options));
  if (options.prompt.has_value()) {
    MNEME_RETURN_IF_ERROR(CheckPrompt(*options.prompt));
  }
  return absl::OkStatus();
}

bool Matches(const SessionFilter& filter, const SessionInfo& session) {
  if (filter.nothing) return false;
  if (filter.model.has_value() && *filter.model != session.model) return false;
  if (filter.activity.has_value() && *filter.activity != session.activity) {
    return false;
  }
  if (filter.tier.has_value() && *filter.tier != session.tier) return false;
  return std::all_of(
      filter.labels.begin(), filter.labels.end(), [&](const auto& label) {
        const auto it = session.labels.find(label.first);
        return it != session.labels.end() && it->second == label.second;
      });
}

}  // namespace mneme
