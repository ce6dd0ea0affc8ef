// SPDX-License-Identifier: Apache-2.0
#include "client/cli.h"

#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/status.h"

namespace mneme::client {

std::string ResourceName(const std::string& collection, const std::string& id) {
  return absl::StartsWith(id, collection) ? id : absl::StrCat(collection, id);
}

std::string ResourceId(const std::string& collection, const std::string& id) {
  return ResourceName(collection, id).substr(collection.size());
}

std::string SnapshotName(const std::string& session, const std::string& id) {
  if (absl::StartsWith(id, "sessions/")) return id;
  return absl::StrCat(ResourceName("sessions/", session), "/snapshots/", id);
}

absl::Status PrintJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status =
      google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) {
    return absl::InternalError(
        absl::StrCat("cannot print as JSON: ", status.ToString()));
  }
  return Print(json + "\n");
}

absl::Status Print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
      std::fflush(stdout) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "cannot write standard output");
}

bool StderrIsTerminal() { return isatty(STDERR_FILENO) == 1; }

int ReportStatus(const absl::Status& status, const std::string& address) {
  if (status.ok()) return kExitOk;
  const std::string code = absl::StatusCodeToString(status.code());
  const std::string message(status.message());
  if (IsUnreachable(status)) {
    std::fprintf(stderr, "mneme: %s: no answer from a server at %s: %s\n",
                 code.c_str(), address.c_str(), message.c_str());
    return kExitUnreachable;
  }
  std::fprintf(stderr, "mneme: %s: %s\n", code.c_str(), message.c_str());
  return kExitFailed;
}

}  // namespace mneme::client
