// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_STORE_ERRORS_H_
#define MNEME_ENGINE_STORE_STORE_ERRORS_H_

#include <string>

#include "absl/status/status.h"
#include "engine/base/errors.h"

namespace mneme {

// UNAVAILABLE (STORE_UNAVAILABLE).
inline absl::Status StoreUnavailable(const std::string& message) {
  return WithReason(absl::UnavailableError(message),
                    {.reason = "STORE_UNAVAILABLE", .metadata = {}});
}

// RESOURCE_EXHAUSTED (QUOTA).
inline absl::Status StoreFull(const std::string& message) {
  return WithReason(absl::ResourceExhaustedError(message),
                    {.reason = "QUOTA", .metadata = {}});
}

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_STORE_ERRORS_H_
