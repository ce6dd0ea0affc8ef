// SPDX-License-Identifier: Apache-2.0
//
// Requests as they come from the wire, and the strings inside them that are
// parsed: whatever they hold, they become options or a status that a client
// can read.
//
// Input: a byte that chooses the request, then its bytes.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/base/check.h"
#include "mneme/v1/memory.pb.h"
#include "mneme/v1/sessions.pb.h"
#include "server/convert.h"
#include "server/names.h"
#include "server/session_filter.h"
#include "server/status.h"

namespace mneme::server {
namespace {

void Check(const absl::Status& status) {
  if (status.ok()) return;
  const grpc::Status sent = ToGrpcStatus(status, "sessions/alice");
  MNEME_CHECK(!sent.ok());
  MNEME_CHECK(!sent.error_message().empty());
  MNEME_CHECK(sent.error_code() != grpc::StatusCode::INTERNAL);
}

template <typename Message>
bool Parse(std::string_view bytes, Message& message) {
  return message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

template <typename Message>
void ConvertOne(std::string_view bytes) {
  Message message;
  if (Parse(bytes, message)) Check(FromProto(message).status());
}

void RunOne(std::string_view input) {
  if (input.empty()) return;
  const std::string_view bytes = input.substr(1);
  switch (static_cast<uint8_t>(input[0]) % 9) {
    case 0:
      return ConvertOne<v1::CreateSessionRequest>(bytes);
    case 1:
      return ConvertOne<v1::UpdateSessionRequest>(bytes);
    case 2:
      return ConvertOne<v1::AppendRequest::Open>(bytes);
    case 3: {
      v1::AppendRequest::Segment segment;
      if (Parse(bytes, segment)) Check(FromProto(&segment).status());
      return;
    }
    case 4:
      return ConvertOne<v1::GenerateRequest>(bytes);
    case 5:
      return ConvertOne<v1::ScoreRequest::Open>(bytes);
    case 6: {
      v1::ScoreRequest request;
      if (Parse(bytes, request)) Check(TakePiece(&request).status());
      return;
    }
    case 7:
      return Check(ParseSessionFilter(std::string(bytes)).status());
    default: {
      const std::string text(bytes);
      Check(ParseSessionName(text, "name").status());
      Check(ParseModelName(text, "model").status());
      Check(DecodePageToken(text, "sessions", "").status());
      return;
    }
  }
}

}  // namespace
}  // namespace mneme::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mneme::server::RunOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
