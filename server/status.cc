// SPDX-License-Identifier: Apache-2.0
#include "server/status.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/log.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace mneme::server {
namespace {

constexpr char kDomain[] = "mneme";
constexpr char kSnapshots[] = "/snapshots/";
constexpr int64_t kRetrySeconds = 1;

std::string ResourceType(const std::string& resource) {
  if (absl::StartsWith(resource, "models/")) return "mneme.v1.Model";
  if (absl::StartsWith(resource, "operations/")) return "mneme.v1.Operation";
  if (absl::StrContains(resource, kSnapshots)) return "mneme.v1.Snapshot";
  return "mneme.v1.Session";
}

// The reason of an error that names none; empty where the code says it all.
std::string DefaultReason(absl::StatusCode code, const std::string& resource) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return "BAD_FIELD";
    case absl::StatusCode::kNotFound:
      return absl::StartsWith(resource, "models/") ? "MODEL_NOT_FOUND"
                                                   : "SESSION_NOT_FOUND";
    case absl::StatusCode::kAlreadyExists:
      return absl::StartsWith(resource, "models/") ? "" : "SESSION_EXISTS";
    case absl::StatusCode::kUnimplemented:
      return "NOT_SUPPORTED";
    default:
      return "";
  }
}

std::string NewIncident() {
  absl::BitGen random;
  return absl::StrCat(
      absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16));
}

template <typename Detail>
void AddDetail(const Detail& detail, google::rpc::Status* rich) {
  rich->add_details()->PackFrom(detail);
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status,
                          const std::string& resource) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message(status.message());

  google::rpc::Status rich;
  rich.set_code(static_cast<int>(status.code()));
  rich.set_message(message);

  google::rpc::ErrorInfo info;
  info.set_domain(kDomain);
  if (const absl::optional<ErrorReason> reason = GetReason(status)) {
    info.set_reason(reason->reason);
    for (const auto& [key, value] : reason->metadata) {
      (*info.mutable_metadata())[key] = value;
    }
  } else {
    info.set_reason(DefaultReason(status.code(), resource));
  }
  // Of a snapshot's name, the part that is missing.
  std::string missing_name = resource;
  if (info.reason() == "SESSION_NOT_FOUND") {
    missing_name = resource.substr(0, resource.find(kSnapshots));
  }
  const bool is_bug = status.code() == absl::StatusCode::kInternal ||
                      status.code() == absl::StatusCode::kUnknown;
  if (is_bug) {
    const std::string incident = NewIncident();
    info.set_reason("INCIDENT");
    (*info.mutable_metadata())["incident"] = incident;
    LogError("incident ", incident, " ", resource, ": ", message);
  }
  if (!info.reason().empty()) AddDetail(info, &rich);

  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted: {
      google::rpc::QuotaFailure quota;
      auto* violation = quota.add_violations();
      violation->set_subject("node");
      violation->set_description(message);
      AddDetail(quota, &rich);
    }
      [[fallthrough]];
    case absl::StatusCode::kUnavailable: {
      google::rpc::RetryInfo retry;
      retry.mutable_retry_delay()->set_seconds(kRetrySeconds);
      AddDetail(retry, &rich);
      break;
    }
    case absl::StatusCode::kNotFound:
      if (!resource.empty()) {
        google::rpc::ResourceInfo missing;
        missing.set_resource_type(ResourceType(missing_name));
        missing.set_resource_name(missing_name);
        missing.set_description(message);
        AddDetail(missing, &rich);
      }
      break;
    case absl::StatusCode::kFailedPrecondition: {
      google::rpc::PreconditionFailure failure;
      auto* violation = failure.add_violations();
      violation->set_type(info.reason());
      violation->set_subject(resource);
      violation->set_description(message);
      AddDetail(failure, &rich);
      break;
    }
    case absl::StatusCode::kInvalidArgument: {
      const auto field = info.metadata().find("field");
      if (field == info.metadata().end()) break;
      google::rpc::BadRequest bad;
      auto* violation = bad.add_field_violations();
      violation->set_field(field->second);
      violation->set_description(message);
      AddDetail(bad, &rich);
      break;
    }
    default:
      break;
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message,
                      rich.SerializeAsString());
}

absl::Status UnsupportedField(const std::string& field) {
  return WithReason(
      absl::UnimplementedError(
          absl::StrCat(field, ": this build does not support the field")),
      {.reason = "NOT_SUPPORTED", .metadata = {{"field", field}}});
}

absl::Status SessionExists(absl::Status status) {
  if (!absl::IsAlreadyExists(status) || GetReason(status).has_value()) {
    return status;
  }
  return WithReason(std::move(status),
                    {.reason = "SESSION_EXISTS", .metadata = {}});
}

absl::Status DrainingError() {
  return WithReason(absl::UnavailableError("the server is shutting down"),
                    {.reason = "DRAINING", .metadata = {}});
}

const char* CodeName(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK:
      return "OK";
    case grpc::StatusCode::CANCELLED:
      return "CANCELLED";
    case grpc::StatusCode::INVALID_ARGUMENT:
      return "INVALID_ARGUMENT";
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return "DEADLINE_EXCEEDED";
    case grpc::StatusCode::NOT_FOUND:
      return "NOT_FOUND";
    case grpc::StatusCode::ALREADY_EXISTS:
      return "ALREADY_EXISTS";
    case grpc::StatusCode::PERMISSION_DENIED:
      return "PERMISSION_DENIED";
    case grpc::StatusCode::UNAUTHENTICATED:
      return "UNAUTHENTICATED";
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return "RESOURCE_EXHAUSTED";
    case grpc::StatusCode::FAILED_PRECONDITION:
      return "FAILED_PRECONDITION";
    case grpc::StatusCode::ABORTED:
      return "ABORTED";
    case grpc::StatusCode::OUT_OF_RANGE:
      return "OUT_OF_RANGE";
    case grpc::StatusCode::UNIMPLEMENTED:
      return "UNIMPLEMENTED";
    case grpc::StatusCode::INTERNAL:
      return "INTERNAL";
    case grpc::StatusCode::UNAVAILABLE:
      return "UNAVAILABLE";
    case grpc::StatusCode::DATA_LOSS:
      return "DATA_LOSS";
    default:
      return "UNKNOWN";
  }
}

}  // namespace mneme::server
