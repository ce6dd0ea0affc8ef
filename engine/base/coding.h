// SPDX-License-Identifier: Apache-2.0
//
// Numbers as bytes, little-endian, whatever the machine.
#ifndef MNEME_ENGINE_BASE_CODING_H_
#define MNEME_ENGINE_BASE_CODING_H_

#include <cstdint>

namespace mneme {

inline void EncodeFixed32(uint32_t value, char* out) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<char>(value >> (8 * i));
}

inline void EncodeFixed64(uint64_t value, char* out) {
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(value >> (8 * i));
}

inline uint32_t DecodeFixed32(const char* in) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    value |= uint32_t{static_cast<uint8_t>(in[i])} << (8 * i);
  }
  return value;
}

inline uint64_t DecodeFixed64(const char* in) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) {
    value |= uint64_t{static_cast<uint8_t>(in[i])} << (8 * i);
  }
  return value;
}

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_CODING_H_
