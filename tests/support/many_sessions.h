// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SUPPORT_MANY_SESSIONS_H_
#define MNEME_TESTS_SUPPORT_MANY_SESSIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace mneme {

// Writes a store of `count` sessions into `directory`, where none is: each with
// a label and two automatic snapshots, every tenth with a journal that goes on
// behind them. What the snapshots hold is not a state, so none can be loaded.
absl::Status WriteManySessions(const std::string& directory, int64_t count,
                               const std::string& model,
                               const std::string& fingerprint);

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_MANY_SESSIONS_H_
