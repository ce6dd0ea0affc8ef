// SPDX-License-Identifier: Apache-2.0
#include "server/session_filter.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "server/names.h"

namespace mneme::server {
namespace {

constexpr size_t kMaxFilterBytes = 4096;
constexpr char kField[] = "filter";
constexpr char kLabelPrefix[] = "labels.";

absl::Status BadTerm(const std::string& term) {
  return BadField(
      kField,
      absl::StrCat("found \"", absl::CHexEscape(term.substr(0, 256)),
                   "\", wanted model = models/{model}, state_tier = HOT (or "
                   "COLD), busy = IDLE or labels.{key} = {value}"));
}

absl::Status AddTerm(const std::string& term, SessionFilter* filter) {
  const std::vector<std::string> sides =
      absl::StrSplit(term, absl::MaxSplits('=', 1));
  if (sides.size() != 2) return BadTerm(term);
  const std::string key(absl::StripAsciiWhitespace(sides[0]));
  std::string value(absl::StripAsciiWhitespace(sides[1]));
  if (value.size() >= 2 && value.front() == '"' && value.back() == '"') {
    value = value.substr(1, value.size() - 2);
  }
  if (key == "model") {
    MNEME_ASSIGN_OR_RETURN(filter->model, ParseModelName(value, kField));
    return absl::OkStatus();
  }
  if (key == "state_tier") {
    if (value != "HOT" && value != "COLD") return BadTerm(term);
    const StateTier tier = value == "HOT" ? StateTier::kHot : StateTier::kCold;
    // No session is both.
    if (filter->tier.value_or(tier) != tier) filter->nothing = true;
    filter->tier = tier;
    return absl::OkStatus();
  }
  if (key == "busy") {
    const std::pair<const char*, SessionActivity> names[] = {
        {"IDLE", SessionActivity::kIdle},
        {"APPENDING", SessionActivity::kAppending},
        {"GENERATING", SessionActivity::kGenerating},
        {"SCORING", SessionActivity::kScoring},
        {"COMMITTING_SEGMENT", SessionActivity::kCommittingSegment}};
    for (const auto& [name, activity] : names) {
      if (value != name) continue;
      filter->activity = activity;
      return absl::OkStatus();
    }
    return BadTerm(term);
  }
  if (absl::StartsWith(key, kLabelPrefix)) {
    filter->labels[key.substr(sizeof kLabelPrefix - 1)] = value;
    return absl::OkStatus();
  }
  return BadTerm(term);
}

}  // namespace

absl::StatusOr<SessionFilter> ParseSessionFilter(const std::string& text) {
  SessionFilter filter;
  if (text.empty()) return filter;
  if (text.size() > kMaxFilterBytes) {
    return BadField(kField,
                    absl::StrCat("found ", text.size(), " bytes, wanted ",
                                 kMaxFilterBytes, " at most"));
  }
  for (const auto& term : absl::StrSplit(text, " AND ")) {
    MNEME_RETURN_IF_ERROR(AddTerm(std::string(term), &filter));
  }
  return filter;
}

}  // namespace mneme::server
