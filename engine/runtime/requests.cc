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

namespace mneme {
namespace {

constexpr size_t kMaxLabels = 64;
constexpr size_t kMaxLabelKey = 63;
constexpr size_t kMaxLabelValue = 256;
constexpr absl::Duration kMaxTtl = absl::Hours(24 * 365 * 10);

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

absl::Status CheckGenerate(const GenerateOptions& options, int64_t vocab_size) {
  if (options.max_tokens < 1) {
    return BadField("max_tokens", absl::StrCat("found ", options.max_tokens,
                                               ", wanted at least 1"));
  }
  const float temperature = options.sampling.temperature;
  if (!(temperature >= 0.0f && temperature <= 100.0f)) {
    return BadField("sampling.temperature",
                    absl::StrCat("found ", temperature, ", wanted 0 to 100"));
  }
  for (const int32_t token : options.stop_tokens) {
    if (token < 0 || token >= vocab_size) {
      return BadField(
          "stop_token_ids",
          absl::StrCat("found ", token, ", wanted 0 to ", vocab_size - 1));
    }
  }
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
  return std::all_of(
      filter.labels.begin(), filter.labels.end(), [&](const auto& label) {
        const auto it = session.labels.find(label.first);
        return it != session.labels.end() && it->second == label.second;
      });
}

}  // namespace mneme
