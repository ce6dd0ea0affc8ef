// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_CRC32C_H_
#define MNEME_CLIENT_CRC32C_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"

namespace mneme::client {

// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78) of `bytes`, as
// segments carry it. No bytes give 0.
uint32_t Crc32c(const std::string& bytes);

// The same over `ids` as little-endian 32-bit integers.
uint32_t Crc32c(absl::Span<const int32_t> ids);

}  // namespace mneme::client

#endif  // MNEME_CLIENT_CRC32C_H_
