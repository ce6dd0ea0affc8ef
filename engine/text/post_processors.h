// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_POST_PROCESSORS_H_
#define MNEME_ENGINE_TEXT_POST_PROCESSORS_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"

namespace mneme {

// The token that "post_processor" of a tokenizer.json puts before a text, if
// any. INVALID_ARGUMENT naming a component that is not served, the found and
// the wanted.
absl::StatusOr<absl::optional<int32_t>> TokenBeforeText(
    const nlohmann::json& post_processor, int64_t vocab_size);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_POST_PROCESSORS_H_
