// SPDX-License-Identifier: Apache-2.0
#include "client/unacknowledged.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "client/crc32c.h"

namespace mneme::client {

std::string TokenBytes(const std::vector<int32_t>& ids) {
  std::string bytes;
  bytes.reserve(4 * ids.size());
  for (const int32_t id : ids) {
    const auto bits = static_cast<uint32_t>(id);
    for (int shift = 0; shift < 32; shift += 8) {
      bytes.push_back(static_cast<char>((bits >> shift) & 0xff));
    }
  }
  return bytes;
}

void Unacknowledged::FreeBefore(int64_t offset) {
  if (offset <= begin_) return;
  const size_t count = ByteAt(offset);
  freed_.Add(std::string_view(bytes_).substr(0, count));
  bytes_.erase(0, count);
  begin_ = offset;
}

v1::AppendRequest::Segment Unacknowledged::Cut(int64_t offset,
                                               int64_t max_units) const {
  const int64_t last = std::min(end(), offset + max_units);
  std::string part =
      bytes_.substr(ByteAt(offset), ByteAt(last) - ByteAt(offset));
  v1::AppendRequest::Segment segment;
  segment.set_offset(offset);
  segment.set_crc32c(Crc32c(part));
  if (unit_ != v1::Session::TOKENS) {
    segment.set_text(std::move(part));
    return segment;
  }
  auto* const ids = segment.mutable_tokens()->mutable_ids();
  ids->Reserve(static_cast<int>(last - offset));
  for (size_t at = 0; at < part.size(); at += 4) {
    uint32_t bits = 0;
    for (size_t byte = 0; byte < 4; ++byte) {
      bits |= static_cast<uint32_t>(static_cast<uint8_t>(part[at + byte]))
              << (8 * byte);
    }
    ids->AddAlreadyReserved(static_cast<int32_t>(bits));
  }
  return segment;
}

std::string Unacknowledged::DigestAt(int64_t offset) const {
  HistoryDigest digest = freed_;
  digest.Add(std::string_view(bytes_).substr(0, ByteAt(offset)));
  return digest.Hex();
}

}  // namespace mneme::client
