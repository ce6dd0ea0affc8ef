// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define MNEME_TESTS_SUPPORT_STATUS_MATCHERS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/errors.h"
#include "gmock/gmock.h"

namespace mneme {

inline absl::Status StatusOf(const absl::Status& status) { return status; }
template <typename T>
absl::Status StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// EXPECT_THAT(Load(), IsOk())
MATCHER(IsOk, "is OK") {
  const absl::Status status = StatusOf(arg);
  if (!status.ok()) *result_listener << std::string(status.ToString());
  return status.ok();
}

// EXPECT_THAT(Load(), Fails(absl::StatusCode::kNotFound, "no such file"))
MATCHER_P2(Fails, code, part, "") {
  const absl::Status status = StatusOf(arg);
  *result_listener << std::string(status.ToString());
  return status.code() == code &&
         std::string(status.message()).find(part) != std::string::npos;
}

// EXPECT_THAT(Write(), HasReason("SEGMENT_GAP"))
MATCHER_P(HasReason, reason, "") {
  const absl::optional<ErrorReason> found = GetReason(StatusOf(arg));
  *result_listener << std::string(StatusOf(arg).ToString());
  return found.has_value() && found->reason == reason;
}

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_STATUS_MATCHERS_H_
