// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_FILES_H_
#define MNEME_ENGINE_BASE_FILES_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace mneme {

// The bytes of a regular file. NOT_FOUND if there is none; INVALID_ARGUMENT if
// it is something else or longer than `max_bytes`; UNAVAILABLE if it cannot be
// read. Each names the path.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path,
                                          int64_t max_bytes);

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_FILES_H_
