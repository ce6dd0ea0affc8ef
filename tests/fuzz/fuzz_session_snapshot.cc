// SPDX-License-Identifier: Apache-2.0
//
// A snapshot: whatever the bytes, it is refused, or its sections are those that
// give the same bytes again, and each is refused or decoded.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tests/fuzz/session_values.h"

namespace mneme {
namespace {

void DecodeOne(std::string_view bytes) {
  const absl::StatusOr<SessionSnapshot> snapshot = DecodeSnapshot(bytes);
  if (!snapshot.ok()) return CheckRefusal(snapshot.status());
  MNEME_CHECK(EncodeSnapshot(*snapshot) == bytes);
  DecodeFuzzedState(snapshot->state);
  DecodeFuzzedHistory(snapshot->history);
  DecodeFuzzedInput(snapshot->input, snapshot->header.unit);
  if (!snapshot->reply.empty()) {
    DecodeFuzzedReply(snapshot->reply, snapshot->header.unit);
  }
}

}  // namespace
}  // namespace mneme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mneme::DecodeOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
