// SPDX-License-Identifier: Apache-2.0
#include "engine/base/format_head.h"

#include "engine/base/byte_coder.h"
#include "engine/base/crc32c.h"

namespace mneme {

void WriteFormatHead(std::string_view letters, uint32_t version,
                     std::string& out) {
  std::string head(letters);
  ByteWriter writer(head);
  writer.U32(version);
  writer.U32(Crc32c(head));
  out += head;
}

absl::optional<uint32_t> ReadFormatHead(std::string_view letters,
                                        std::string_view bytes) {
  ByteReader in(bytes);
  const std::string_view found = in.Raw(letters.size());
  const uint32_t version = in.U32();
  const uint32_t checksum = in.U32();
  if (!in.ok() || found != letters ||
      checksum != Crc32c(bytes.substr(0, kFormatHeadBytes - 4))) {
    return absl::nullopt;
  }
  return version;
}

}  // namespace mneme
