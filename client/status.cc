// SPDX-License-Identifier: Apache-2.0
#include "client/status.h"

#include <map>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace mneme::client {
namespace {

constexpr char kDetailsUrl[] = "type.googleapis.com/google.rpc.Status";

// The first detail of that type in a serialized google.rpc.Status.
template <typename Detail>
std::optional<Detail> Find(const std::string& serialized) {
  google::rpc::Status details;
  if (serialized.empty() || !details.ParseFromString(serialized)) {
    return std::nullopt;
  }
  for (const google::protobuf::Any& any : details.details()) {
    Detail detail;
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

template <typename Detail>
std::optional<Detail> Find(const absl::Status& status) {
  const auto payload = status.GetPayload(kDetailsUrl);
  if (!payload.has_value()) return std::nullopt;
  return Find<Detail>(std::string(*payload));
}

}  // namespace

absl::Status ToAbslStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  std::string message = status.error_message();
  if (const auto info = Find<google::rpc::ErrorInfo>(status.error_details())) {
    absl::StrAppend(&message, message.empty() ? "(" : " (", info->reason());
    // Sorted, so that the same error always reads the same.
    const std::map<std::string, std::string> metadata(info->metadata().begin(),
                                                      info->metadata().end());
    for (const auto& [key, value] : metadata) {
      absl::StrAppend(&message, " ", key, "=", value);
    }
    absl::StrAppend(&message, ")");
  }
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()),
                      message);
  if (!status.error_details().empty()) {
    result.SetPayload(kDetailsUrl, absl::Cord(status.error_details()));
  }
  return result;
}

std::string ReasonOf(const absl::Status& status) {
  const auto info = Find<google::rpc::ErrorInfo>(status);
  return info.has_value() ? info->reason() : "";
}

std::string ReasonMetadata(const absl::Status& status, const std::string& key) {
  const auto info = Find<google::rpc::ErrorInfo>(status);
  if (!info.has_value()) return "";
  const auto found = info->metadata().find(key);
  return found == info->metadata().end() ? "" : found->second;
}

absl::optional<absl::Duration> RetryDelayOf(const absl::Status& status) {
  const auto info = Find<google::rpc::RetryInfo>(status);
  if (!info.has_value()) return absl::nullopt;
  return absl::Seconds(info->retry_delay().seconds()) +
         absl::Nanoseconds(info->retry_delay().nanos());
}

bool IsRetryable(const absl::Status& status) {
  const std::string reason = ReasonOf(status);
  if (absl::IsUnavailable(status)) return reason != "NOT_OWNER";
  // The client itself broke this rule; it would do so again.
  if (reason == "CREDIT_EXCEEDED") return false;
  return absl::IsResourceExhausted(status) && RetryDelayOf(status).has_value();
}

bool IsBrokenStream(const absl::Status& status) {
  if (IsRetryable(status)) return true;
  const bool transport = absl::IsCancelled(status) ||
                         absl::IsInternal(status) || absl::IsUnknown(status);
  return transport && ReasonOf(status).empty();
}

bool IsUnreachable(const absl::Status& status) {
  return absl::IsUnavailable(status) && ReasonOf(status).empty();
}

}  // namespace mneme::client
