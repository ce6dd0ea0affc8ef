// SPDX-License-Identifier: Apache-2.0
#include "client/crc32c.h"

#include <array>

namespace mneme::client {
namespace {

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
    }
    table[byte] = crc;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kTable = MakeTable();

constexpr uint32_t Extend(uint32_t crc, uint8_t byte) {
  return (crc >> 8) ^ kTable[(crc ^ byte) & 0xff];
}

}  // namespace

uint32_t Crc32c(const std::string& bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = Extend(crc, static_cast<uint8_t>(byte));
  return ~crc;
}

uint32_t Crc32c(absl::Span<const int32_t> ids) {
  uint32_t crc = ~0u;
  for (const int32_t id : ids) {
    const auto bits = static_cast<uint32_t>(id);
    for (int shift = 0; shift < 32; shift += 8) {
      crc = Extend(crc, static_cast<uint8_t>(bits >> shift));
    }
  }
  return ~crc;
}

}  // namespace mneme::client
