// SPDX-License-Identifier: Apache-2.0
#include "engine/base/errors.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace mneme {
namespace {

constexpr char kPayloadUrl[] = "mneme/error-reason";

}  // namespace

// The payload is "REASON\nkey\nvalue\nkey\nvalue": neither keys nor values
// hold newlines, being names and numbers of ours.
absl::Status WithReason(absl::Status status, ErrorReason reason) {
  if (status.ok()) return status;
  std::string payload = std::move(reason.reason);
  for (const auto& [key, value] : reason.metadata) {
    payload.append("\n").append(key).append("\n").append(value);
  }
  status.SetPayload(kPayloadUrl, absl::Cord(payload));
  return status;
}

absl::Status BadField(const std::string& field,
                      const std::string& description) {
  return WithReason(
      absl::InvalidArgumentError(absl::StrCat(field, ": ", description)),
      {.reason = "BAD_FIELD", .metadata = {{"field", field}}});
}

absl::Status BadUtf8(const std::string& field, int64_t offset,
                     const std::string& description) {
  return WithReason(
      absl::InvalidArgumentError(absl::StrCat(field, ": ", description)),
      {.reason = "BAD_UTF8",
       .metadata = {{"field", field}, {"offset", absl::StrCat(offset)}}});
}

absl::optional<ErrorReason> GetReason(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return absl::nullopt;
  const std::string text(*payload);
  const std::vector<std::string> parts = absl::StrSplit(text, '\n');
  ErrorReason reason{.reason = parts[0], .metadata = {}};
  for (size_t i = 1; i + 1 < parts.size(); i += 2) {
    reason.metadata.emplace_back(parts[i], parts[i + 1]);
  }
  return reason;
}

}  // namespace mneme
