// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_CRC32C_H_
#define MNEME_ENGINE_BASE_CRC32C_H_

#include <cstdint>
#include <string_view>

namespace mneme {

// CRC-32C (Castagnoli, RFC 3720 appendix B.4) of `bytes`; 0 for none.
uint32_t Crc32c(std::string_view bytes);

// Of the bytes whose checksum `crc` is, and then `bytes`.
uint32_t ExtendCrc32c(uint32_t crc, std::string_view bytes);
// As Crc32c, as machines without an instruction for it compute it.
uint32_t Crc32cByTables(std::string_view bytes);

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_CRC32C_H_
