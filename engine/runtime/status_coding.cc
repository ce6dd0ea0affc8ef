// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/status_coding.h"

#include <string>
#include <utility>

#include "engine/base/errors.h"

namespace mneme {

void EncodeStatus(const absl::Status& status, ByteWriter& out) {
  out.U8(static_cast<uint8_t>(status.code()));
  if (status.ok()) return;
  const absl::string_view message = status.message();
  out.Bytes({message.data(), message.size()});
  const absl::optional<ErrorReason> reason = GetReason(status);
  out.Bool(reason.has_value());
  if (!reason.has_value()) return;
  out.Bytes(reason->reason);
  out.U64(reason->metadata.size());
  for (const auto& [key, value] : reason->metadata) {
    out.Bytes(key);
    out.Bytes(value);
  }
}

namespace {

// Reasons and what belongs to them are one line each.
std::string DecodeLine(ByteReader& in) {
  std::string line = in.String();
  if (line.find('\n') != std::string::npos) in.Fail();
  return line;
}

}  // namespace

absl::Status DecodeStatus(ByteReader& in) {
  const uint8_t code = in.U8();
  if (code > static_cast<uint8_t>(absl::StatusCode::kUnauthenticated)) {
    in.Fail();
  }
  if (!in.ok() || code == 0) return absl::OkStatus();
  const std::string message = in.String();
  absl::Status status(static_cast<absl::StatusCode>(code), message);
  if (!in.Bool()) return status;
  ErrorReason reason{.reason = DecodeLine(in), .metadata = {}};
  for (uint64_t left = in.U64(); left > 0 && in.ok(); --left) {
    std::string key = DecodeLine(in);
    reason.metadata.emplace_back(std::move(key), DecodeLine(in));
  }
  return WithReason(std::move(status), std::move(reason));
}

void EncodeDuration(absl::Duration duration, ByteWriter& out) {
  out.I64(absl::ToInt64Nanoseconds(duration));
}

absl::Duration DecodeDuration(ByteReader& in) {
  return absl::Nanoseconds(in.I64());
}

}  // namespace mneme
