// SPDX-License-Identifier: Apache-2.0
#include "engine/store/blob_pieces.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "engine/base/crc32c.h"
#include "engine/base/status_macros.h"
#include "engine/store/record_coding.h"
#include "engine/store/store_keys.h"

namespace mneme {
namespace {

constexpr KvStore::Space kMeta = KvStore::Space::kMeta;
constexpr KvStore::Space kBlobs = KvStore::Space::kBlobs;

// More than that is not taken on a header's word.
constexpr uint64_t kMaxReservedBytes = 256 << 20;

absl::Status Damaged(uint64_t blob, const std::string& what) {
  return absl::DataLossError(absl::StrCat("blob ", blob, ": ", what));
}

absl::StatusOr<BlobHeader> ReadHeader(uint64_t blob, const KvStore& kv) {
  MNEME_ASSIGN_OR_RETURN(const absl::optional<std::string> payload,
                         GetSealed(kv, kMeta, BlobHeaderKey(blob)));
  if (!payload.has_value()) return absl::DataLossError("it is not there");
  return DecodeBlobHeader(*payload);
}

}  // namespace

absl::Status WriteBlobPieces(uint64_t blob, std::string_view contents,
                             KvStore& kv) {
  KvStore::Batch header;
  PutSealed(kMeta, BlobHeaderKey(blob),
            EncodeBlobHeader({contents.size(), Crc32c(contents)}), header);
  PutSealed(kMeta, kNextBlobKey, EncodeNumber(blob + 1), header);
  MNEME_RETURN_IF_ERROR(kv.Write(header, /*sync=*/false));
  uint32_t piece = 0;
  for (size_t begin = 0; begin < contents.size(); begin += kBlobPieceBytes) {
    KvStore::Batch batch;
    PutSealed(kBlobs, BlobPieceKey(blob, piece++),
              contents.substr(begin, kBlobPieceBytes), batch);
    MNEME_RETURN_IF_ERROR(kv.Write(batch, /*sync=*/false));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadBlobPieces(uint64_t blob, const KvStore& kv) {
  const absl::StatusOr<BlobHeader> header = ReadHeader(blob, kv);
  if (absl::IsDataLoss(header.status())) {
    return Damaged(blob, std::string(header.status().message()));
  }
  if (!header.ok()) return header.status();
  std::string contents;
  contents.reserve(std::min<uint64_t>(header->size, kMaxReservedBytes));
  for (uint32_t piece = 0; contents.size() < header->size; ++piece) {
    const std::string key = BlobPieceKey(blob, piece);
    const absl::StatusOr<absl::optional<std::string>> value =
        kv.Get(kBlobs, key);
    absl::StatusOr<std::string_view> payload = std::string_view();
    if (!value.ok()) {
      payload = value.status();
    } else if (value->has_value()) {
      payload = Unseal(kBlobs, key, **value);
    }
    if (absl::IsDataLoss(payload.status())) {
      return Damaged(blob, std::string(payload.status().message()));
    }
    if (!payload.ok()) return payload.status();
    const uint64_t want =
        std::min<uint64_t>(header->size - contents.size(), kBlobPieceBytes);
    if (!value->has_value() || payload->size() != want) {
      return Damaged(blob,
                     absl::StrCat("piece ", piece, " is missing or cut short"));
    }
    contents.append(*payload);
  }
  if (Crc32c(contents) != header->crc) {
    return Damaged(blob, "it fails its checksum");
  }
  return contents;
}

void DeleteBlobPieces(uint64_t blob, KvStore::Batch& batch) {
  DeleteKey(kMeta, BlobHeaderKey(blob), batch);
  DeleteKeys(kBlobs, BlobPieceKey(blob, 0), BlobPieceKey(blob + 1, 0), batch);
}

void DeleteAllPieces(KvStore::Batch& batch) {
  DeleteKeys(kBlobs, BlobPieceKey(0, 0), BlobPieceKey(UINT64_MAX, UINT32_MAX),
             batch);
}

}  // namespace mneme
