// SPDX-License-Identifier: Apache-2.0
//
// JSON that comes from outside, with what the library leaves open settled:
// how deep it may go, and that a key may stand once.
#ifndef MNEME_ENGINE_BASE_JSON_TEXT_H_
#define MNEME_ENGINE_BASE_JSON_TEXT_H_

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mneme {

// The JSON object that `text` holds. INVALID_ARGUMENT, beginning with `what`,
// if it holds anything else, goes more than 16 levels deep, or has a key twice
// in one object.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text,
                                               std::string_view what);

// A value as an error message shows it, cut short. REQUIRES: it came from
// ParseJsonObject, so that it is not too deep to be walked.
std::string ShowJson(const nlohmann::json& value);

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_JSON_TEXT_H_
