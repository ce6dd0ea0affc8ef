// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_HISTORY_H_
#define MNEME_ENGINE_RUNTIME_HISTORY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/sha256.h"
#include "engine/runtime/types.h"

namespace mneme {

// Bytes of history that one step of an offset stands for.
inline int64_t UnitBytes(SessionUnit unit) {
  return unit == SessionUnit::kText ? 1 : 4;
}

// The account of what a session was given and has said: how much, its digest,
// and its last bytes, against which a repeated segment is compared. Takes a
// fixed number of bytes, however long the history is.
//
// A token session is accounted as its ids, four bytes little-endian each.
class History {
 public:
  // Bytes of history that are kept for comparing.
  static constexpr int64_t kKeptBytes = 64 << 10;

  explicit History(SessionUnit unit) : unit_(unit) {}

  SessionUnit unit() const { return unit_; }
  // In the session's unit.
  int64_t next_offset() const { return bytes_ / unit_bytes(); }
  int64_t unit_bytes() const { return UnitBytes(unit_); }
  // From here on its bytes are kept.
  int64_t kept_offset() const {
    const int64_t oldest = bytes_ - static_cast<int64_t>(kept_.size());
    return (oldest + unit_bytes() - 1) / unit_bytes();
  }

  void Add(std::string_view bytes);

  enum class Match { kSame, kDifferent, kTooOld };
  // Compares `bytes`, which were sent for `offset`, with what is there.
  // REQUIRES: they end at or before next_offset(). Bytes that are no longer
  // kept are not compared: kTooOld if there are such, and the rest is the
  // same.
  Match Compare(int64_t offset, std::string_view bytes) const;

  // SHA-256 of the whole history, 64 hex digits.
  std::string Digest() const { return hash_.HexDigest(); }

  // Appends all of it to `out`; see engine/state/FORMAT.md.
  void Encode(std::string& out) const;
  // The account that was encoded. DATA_LOSS for bytes that none has.
  static absl::StatusOr<History> Decode(std::string_view in);

 private:
  // Counts `bytes`, and keeps the last of them.
  void Keep(std::string_view bytes);

  SessionUnit unit_;
  int64_t bytes_ = 0;
  Sha256 hash_;
  std::string kept_;  // a ring once it is full; byte i of the history lies
                      // at i % kKeptBytes
};

// The bytes of token ids, as histories and checksums count them.
std::string TokenBytes(const std::vector<int32_t>& tokens);

// The size of PayloadBytes(payload).
int64_t PayloadSize(const Payload& payload);

// What a payload is to a history: its bytes, or the bytes of its token ids.
std::string PayloadBytes(const Payload& payload);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_HISTORY_H_
