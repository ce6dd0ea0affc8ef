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

std::optional<google::rpc::ErrorInfo> FindErrorInfo(
    const std::string& serialized) {
  google::rpc::Status details;
  if (serialized.empty() || !details.ParseFromString(serialized)) {
    return std::nullopt;
  }
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::ErrorInfo info;
    if (any.UnpackTo(&info)) return info;
  }
  return std::nullopt;
}

}  // namespace

absl::Status ToAbslStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  std::string message = status.error_message();
  if (const auto info = FindErrorInfo(status.error_details())) {
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
  const auto payload = status.GetPayload(kDetailsUrl);
  if (!payload.has_value()) return "";
  const auto info = FindErrorInfo(std::string(*payload));
  return info.has_value() ? info->reason() : "";
}

bool IsUnreachable(const absl::Status& status) {
  return absl::IsUnavailable(status) && ReasonOf(status).empty();
}

}  // namespace mneme::client
