// SPDX-License-Identifier: Apache-2.0
//
// Errors that a program can tell apart. A status code says how to react; the
// reason says what happened, in one word that never changes, with the numbers
// a client needs to go on ("SEGMENT_GAP", expected_offset = 4096).
#ifndef MNEME_ENGINE_BASE_ERRORS_H_
#define MNEME_ENGINE_BASE_ERRORS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"

namespace mneme {

struct ErrorReason {
  std::string reason;  // UPPER_SNAKE_CASE
  std::vector<std::pair<std::string, std::string>> metadata;
};

// Returns `status` with `reason` attached; an OK status stays as it is.
absl::Status WithReason(absl::Status status, ErrorReason reason);

// INVALID_ARGUMENT BAD_FIELD. `field` is its path in a request, in proto
// spelling; the description says what was found and what was wanted.
absl::Status BadField(const std::string& field, const std::string& description);

// INVALID_ARGUMENT BAD_UTF8. As BadField, and at which byte the text is wrong,
// counted as the field's offsets are.
absl::Status BadUtf8(const std::string& field, int64_t offset,
                     const std::string& description);

// The reason attached to `status`, if any.
absl::optional<ErrorReason> GetReason(const absl::Status& status);

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_ERRORS_H_
