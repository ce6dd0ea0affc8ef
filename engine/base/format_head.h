// SPDX-License-Identifier: Apache-2.0
//
// What every file and blob of ours begins with: eight letters that say what it
// is, its version, and a checksum of both, so that a newer one is told from a
// damaged one.
#ifndef MNEME_ENGINE_BASE_FORMAT_HEAD_H_
#define MNEME_ENGINE_BASE_FORMAT_HEAD_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/types/optional.h"

namespace mneme {

// The letters, the version in 4 bytes little-endian, the CRC-32C of these 12.
inline constexpr int64_t kFormatHeadBytes = 16;

// Appends a head to `out`. REQUIRES: `letters` are eight.
void WriteFormatHead(std::string_view letters, uint32_t version,
                     std::string& out);

// The version that `bytes` begin with; nothing if they begin otherwise, or the
// checksum is wrong.
absl::optional<uint32_t> ReadFormatHead(std::string_view letters,
                                        std::string_view bytes);

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_FORMAT_HEAD_H_
