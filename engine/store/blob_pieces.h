// SPDX-License-Identifier: Apache-2.0
//
// Blobs in a KvStore: a header in kMeta, and the contents in pieces in kBlobs.
#ifndef MNEME_ENGINE_STORE_BLOB_PIECES_H_
#define MNEME_ENGINE_STORE_BLOB_PIECES_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/store/kv_store.h"

namespace mneme {

inline constexpr size_t kBlobPieceBytes = 1 << 20;

// Writes a blob without a sync; the header, with the number to come next,
// first. After an error part of it may be left.
absl::Status WriteBlobPieces(uint64_t blob, std::string_view contents,
                             KvStore& kv);
// DATA_LOSS, naming the blob, if any of it is missing or damaged.
absl::StatusOr<std::string> ReadBlobPieces(uint64_t blob, const KvStore& kv);
void DeleteBlobPieces(uint64_t blob, KvStore::Batch& batch);
// The contents of all blobs; their headers stay.
void DeleteAllPieces(KvStore::Batch& batch);

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_BLOB_PIECES_H_
