// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_GENERATE_OPTIONS_CODING_H_
#define MNEME_ENGINE_RUNTIME_GENERATE_OPTIONS_CODING_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/runtime/types.h"

namespace mneme {

// Appends to `out` what a generation is carried on by after a restart: all of
// `options` but session, uid, prompt and output_offset, with `seed`, the one
// that is used.
void EncodeGenerateOptions(const GenerateOptions& options, uint64_t seed,
                           std::string& out);

// The options that were encoded, their seed set, for a session of `unit`.
// DATA_LOSS for bytes that none have, or for what no request may ask for;
// FAILED_PRECONDITION (STATE_INCOMPATIBLE) for a newer format.
absl::StatusOr<GenerateOptions> DecodeGenerateOptions(std::string_view in,
                                                      SessionUnit unit,
                                                      int64_t vocab_size);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_GENERATE_OPTIONS_CODING_H_
