// SPDX-License-Identifier: Apache-2.0
//
// Records of a store as bytes: see FORMAT.md. What is decoded is DATA_LOSS if
// the bytes are no record, whole and alone. Times are kept to the nanosecond.
#ifndef MNEME_ENGINE_STORE_RECORD_CODING_H_
#define MNEME_ENGINE_STORE_RECORD_CODING_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/byte_coder.h"
#include "engine/store/store_types.h"

namespace mneme {

std::string EncodeSessionRecord(const SessionRecord& record);
absl::StatusOr<SessionRecord> DecodeSessionRecord(std::string_view bytes);

// A remembered request, with the store's age when it was put.
struct AgedRequest {
  absl::Duration store_age;
  RememberedRequest request;

  bool operator==(const AgedRequest&) const = default;
};
std::string EncodeAgedRequest(const AgedRequest& aged);
absl::StatusOr<AgedRequest> DecodeAgedRequest(std::string_view bytes);

std::string EncodeNumber(uint64_t number);
absl::StatusOr<uint64_t> DecodeNumber(std::string_view bytes);

void WriteTime(absl::Time time, ByteWriter& out);
absl::Time ReadTime(ByteReader& in);

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_RECORD_CODING_H_
