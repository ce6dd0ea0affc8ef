// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_SESSION_FILTER_H_
#define MNEME_SERVER_SESSION_FILTER_H_

#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"

namespace mneme::server {

// Reads ListSessionsRequest.filter, as its comment describes it.
// INVALID_ARGUMENT naming the term that is none.
absl::StatusOr<SessionFilter> ParseSessionFilter(const std::string& text);

}  // namespace mneme::server

#endif  // MNEME_SERVER_SESSION_FILTER_H_
