// SPDX-License-Identifier: Apache-2.0
//
// A session's record: whatever the bytes, decoding ends, and what is decoded
// is spelt by these bytes alone.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/base/check.h"
#include "engine/store/record_coding.h"

namespace mneme {
namespace {

void DecodeOne(std::string_view bytes) {
  const absl::StatusOr<SessionRecord> decoded = DecodeSessionRecord(bytes);
  if (!decoded.ok()) {
    MNEME_CHECK(decoded.status().code() == absl::StatusCode::kDataLoss);
    return;
  }
  MNEME_CHECK(EncodeSessionRecord(*decoded) == bytes);
}

}  // namespace
}  // namespace mneme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mneme::DecodeOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
