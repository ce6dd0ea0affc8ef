// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_SHA256_H_
#define MNEME_ENGINE_BASE_SHA256_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/types/optional.h"

namespace mneme {

// An incremental SHA-256 (FIPS 180-4), as a value. Thread-compatible.
class Sha256 {
 public:
  // Bytes of Save().
  static constexpr int64_t kSavedBytes = 104;

  void Update(std::string_view bytes);

  // Little-endian, eight bytes: lengths, counts and flags of a digested form.
  void UpdateInt64(int64_t value);

  // The digest of all bytes so far, 32 bytes. More may follow.
  std::string Digest() const;
  // The same as 64 lower-case hex digits.
  std::string HexDigest() const;

  // Bytes so far.
  uint64_t bytes() const { return bytes_; }

  // What Restore goes on from: bytes() as 8 bytes and the eight chaining words
  // as 4 each, all little-endian, then the open block with zeros behind it.
  std::string Save() const;
  // Nothing if `saved` is not of that form.
  static absl::optional<Sha256> Restore(std::string_view saved);

 private:
  static constexpr size_t kBlockBytes = 64;

  // REQUIRES: whole blocks.
  void Compress(std::string_view blocks);
  size_t open_bytes() const { return bytes_ % kBlockBytes; }

  std::array<uint32_t, 8> chain_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372,
                                    0xa54ff53a, 0x510e527f, 0x9b05688c,
                                    0x1f83d9ab, 0x5be0cd19};
  uint64_t bytes_ = 0;
  // The first open_bytes() count.
  std::array<char, kBlockBytes> block_ = {};
};

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_SHA256_H_
