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
// The instruction takes three cycles, of which two of others can begin: so
// three lanes of a stretch are folded side by side, and joined.
constexpr size_t kLaneBytes = 2048;  // a power of two

// What so many zero bytes behind it make of a remainder. Linear: by byte of the
// remainder, and then by the value of that byte.
using Shift = std::array<std::array<uint32_t, 256>, 4>;

constexpr Shift MakeShift(size_t zero_bytes) {
  // What they make of each bit. Doubling their number applies it to itself.
  std::array<uint32_t, 32> bits{};
  for (uint32_t bit = 0; bit < 32; ++bit) {
    const uint32_t remainder = uint32_t{1} << bit;
    bits[bit] = (remainder >> 8) ^ kTables[0][remainder & 0xff];
  }
  const auto apply = [](const std::array<uint32_t, 32>& to, uint32_t value) {
    uint32_t result = 0;
    for (uint32_t bit = 0; bit < 32; ++bit) {
      if ((value >> bit & 1) != 0) result ^= to[bit];
    }
    return result;
  };
  for (size_t bytes = 1; bytes < zero_bytes; bytes *= 2) {
    std::array<uint32_t, 32> twice{};
    for (uint32_t bit = 0; bit < 32; ++bit) twice[bit] = apply(bits, bits[bit]);
    bits = twice;
  }
  Shift shift{};
  for (uint32_t byte = 0; byte < 4; ++byte) {
    for (uint32_t value = 0; value < 256; ++value) {
      shift[byte][value] = apply(bits, value << (8 * byte));
    }
  }
  return shift;
}

constexpr Shift kPastOneLane = MakeShift(kLaneBytes);

uint32_t Shifted(const Shift& shift, uint32_t crc) {
  return shift[0][crc & 0xff] ^ shift[1][crc >> 8 & 0xff] ^
         shift[2][crc >> 16 & 0xff] ^ shift[3][crc >> 24];
}

__attribute__((target("sse4.2"), always_inline)) inline void Fold(
    const char* word_at, uint64_t& crc) {
  uint64_t word;
  std::memcpy(&word, word_at, 8);
  crc = __builtin_ia32_crc32di(crc, word);
}

// As FoldWords, by the instruction that there is for it.
__attribute__((target("sse4.2"))) uint32_t FoldWordsSse(
    uint32_t crc, std::string_view& bytes) {
  uint64_t first = crc;
  while (bytes.size() >= 3 * kLaneBytes) {
    uint64_t second = 0;
    uint64_t third = 0;
    for (size_t at = 0; at < kLaneBytes; at += 8) {
      Fold(bytes.data() + at, first);
      Fold(bytes.data() + kLaneBytes + at, second);
      Fold(bytes.data() + 2 * kLaneBytes + at, third);
    }
    first = Shifted(kPastOneLane, static_cast<uint32_t>(first)) ^ second;
    first = Shifted(kPastOneLane, static_cast<uint32_t>(first)) ^ third;
    bytes.remove_prefix(3 * kLaneBytes);
  }
  while (bytes.size() >= 8) {
    Fold(bytes.data(), first);
    bytes.remove_prefix(8);
  }
  return static_cast<uint32_t>(first);
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
