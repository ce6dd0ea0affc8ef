// SPDX-License-Identifier: Apache-2.0
//
// An exported session, read in pieces: whatever the bytes, it is refused, or
// the file that is made of it has the same bytes.
//
// Input: the bytes of a piece, less one, in a byte, and the file.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/check.h"
#include "engine/runtime/session_export.h"

namespace mneme {
namespace {

void ReadOne(std::string_view file, size_t piece) {
  ExportReader reader(/*max_snapshot_bytes=*/1 << 16);
  absl::Status status;
  for (size_t at = 0; at < file.size() && status.ok(); at += piece) {
    status = reader.Add(file.substr(at, piece));
  }
  absl::StatusOr<ExportedSession> session = reader.Finish();
  MNEME_CHECK(status.ok() || session.status() == status);
  if (!session.ok()) {
    const absl::StatusCode code = session.status().code();
    MNEME_CHECK(code == absl::StatusCode::kInvalidArgument ||
                code == absl::StatusCode::kFailedPrecondition ||
                code == absl::StatusCode::kDataLoss);
    MNEME_CHECK(!session.status().message().empty());
    return;
  }
  const ExportFile again(session->header, std::move(session->snapshot));
  std::string bytes;
  for (std::string_view more;
       !(more = again.Read(bytes.size(), 1 << 20)).empty();) {
    bytes += more;
  }
  MNEME_CHECK(bytes == file);
}

}  // namespace
}  // namespace mneme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  mneme::ReadOne(bytes.substr(1), size_t{data[0]} + 1);
  return 0;
}
