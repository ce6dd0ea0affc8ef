// SPDX-License-Identifier: Apache-2.0
#include "engine/base/crc32c.h"

#include <array>
#include <cstring>

namespace mneme {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected

// kTables[i][b]: the remainder of byte b followed by i zero bytes, so that
// eight bytes are folded in at a time.
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    }
    tables[0][byte] = crc;
  }
  for (size_t i = 1; i < tables.size(); ++i) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[i - 1][byte];
      tables[i][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

// All but the last bytes, fewer than eight, which are left in `bytes`.
uint32_t FoldWords(uint32_t crc, std::string_view& bytes) {
  while (bytes.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);  // little-endian, as the tables are
    word ^= crc;
    crc = 0;
    for (int i = 0; i < 8; ++i) crc ^= kTables[7 - i][(word >> (8 * i)) & 0xff];
    bytes.remove_prefix(8);
  }
  return crc;
}

uint32_t FoldBytes(uint32_t crc, std::string_view bytes) {
  for (const char c : bytes) {
    crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<uint8_t>(c)) & 0xff];
  }
  return crc;
}

#ifdef __x86_64__
// As FoldWords, by the instruction that there is for it.
__attribute__((target("sse4.2"))) uint32_t FoldWordsSse(
    uint32_t crc, std::string_view& bytes) {
  uint64_t wide = crc;
  while (bytes.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    wide = __builtin_ia32_crc32di(wide, word);
    bytes.remove_prefix(8);
  }
  return static_cast<uint32_t>(wide);
}
#endif

}  // namespace

uint32_t Crc32cByTables(std::string_view bytes) {
  const uint32_t crc = FoldWords(0xffffffff, bytes);
  return FoldBytes(crc, bytes) ^ 0xffffffff;
}

uint32_t ExtendCrc32c(uint32_t crc, std::string_view bytes) {
  crc ^= 0xffffffff;
#ifdef __x86_64__
  static const bool kHasInstruction = __builtin_cpu_supports("sse4.2") != 0;
  crc = kHasInstruction ? FoldWordsSse(crc, bytes) : FoldWords(crc, bytes);
#else
  crc = FoldWords(crc, bytes);
#endif
  return FoldBytes(crc, bytes) ^ 0xffffffff;
}

uint32_t Crc32c(std::string_view bytes) { return ExtendCrc32c(0, bytes); }

}  // namespace mneme
