// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_UNACKNOWLEDGED_H_
#define MNEME_CLIENT_UNACKNOWLEDGED_H_

#include <cstdint>
#include <string>
#include <vector>

#include "client/history_digest.h"
#include "mneme/v1/memory.pb.h"

namespace mneme::client {

// Token ids as digests and checksums count them: four bytes each,
// little-endian.
std::string TokenBytes(const std::vector<int32_t>& ids);

// The part of an append that the server has not acknowledged yet, from which
// segments are cut, and cut again after a broken stream. Offsets are the
// session's: bytes, or tokens. Not thread-safe.
class Unacknowledged {
 public:
  explicit Unacknowledged(v1::Session::Unit unit)
      : unit_(unit), unit_bytes_(unit == v1::Session::TOKENS ? 4 : 1) {}

  v1::Session::Unit unit() const { return unit_; }
  int64_t unit_bytes() const { return unit_bytes_; }

  // First and past-the-end offset of what is held.
  int64_t begin() const { return begin_; }
  int64_t end() const {
    return begin_ + static_cast<int64_t>(bytes_.size()) / unit_bytes_;
  }

  // Begins at `offset`. REQUIRES: nothing was freed yet.
  void StartAt(int64_t offset) { begin_ = offset; }

  // Adds history as the digest counts it. REQUIRES: whole units.
  void Add(const std::string& bytes) { bytes_ += bytes; }

  // Lets go of what is before `offset`; nothing if that is before begin().
  // REQUIRES: offset <= end().
  void FreeBefore(int64_t offset);

  // What is held from `offset` on, at most `max_units`, as a message with its
  // checksum. REQUIRES: begin() <= offset < end(), max_units > 0.
  v1::AppendRequest::Segment Cut(int64_t offset, int64_t max_units) const;

  // What digest a server has that holds everything before `offset`, if its
  // history began with what was first added here.
  // REQUIRES: begin() <= offset <= end().
  std::string DigestAt(int64_t offset) const;

 private:
  size_t ByteAt(int64_t offset) const {
    return static_cast<size_t>((offset - begin_) * unit_bytes_);
  }

  const v1::Session::Unit unit_;
  const int64_t unit_bytes_;
  int64_t begin_ = 0;
  std::string bytes_;
  HistoryDigest freed_;  // of what was let go
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_UNACKNOWLEDGED_H_
