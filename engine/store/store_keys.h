// SPDX-License-Identifier: Apache-2.0
//
// Under which keys a KvSessionStore keeps what, and how values are sealed: see
// FORMAT.md. A `uid` here is its 16 bytes.
#ifndef MNEME_ENGINE_STORE_STORE_KEYS_H_
#define MNEME_ENGINE_STORE_STORE_KEYS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/store/kv_store.h"

namespace mneme {

// Of 32 lower-case hex digits. INVALID_ARGUMENT if they are not.
absl::StatusOr<std::string> UidBytes(const std::string& hex);
std::string UidHex(std::string_view bytes);

// kMeta.
inline constexpr char kFormatKey[] = "format";
inline constexpr char kStoreAgeKey[] = "age";
inline constexpr char kNextBlobKey[] = "blob";
inline constexpr char kForgetKey[] = "forget";
inline constexpr char kRecordPrefix[] = "s/";   // and a uid
inline constexpr char kActivePrefix[] = "w/";   // and a uid
inline constexpr char kRequestPrefix[] = "q/";  // and a number
std::string RecordKey(std::string_view uid);
std::string ActiveKey(std::string_view uid);
std::string RequestKey(uint64_t number);

// kJournal.
std::string JournalKey(std::string_view uid, uint64_t seq);
// kBlobs.
std::string BlobKey(uint64_t blob);

// The first key behind all that begin with `prefix`, which is not all 0xff.
std::string BehindPrefix(std::string_view prefix);

// The number at the end of a key: eight bytes, the most significant first.
absl::StatusOr<uint64_t> NumberAtEnd(std::string_view key);

// A value as it is stored under a key: with its format version and a checksum
// over both behind it.
std::string Seal(KvStore::Space space, std::string_view key,
                 std::string payload);
// The payload, the front of `value`. DATA_LOSS if the value is not what was
// stored under this key.
absl::StatusOr<std::string_view> Unseal(KvStore::Space space,
                                        std::string_view key,
                                        std::string_view value);

// Adds a change to `batch`.
void PutSealed(KvStore::Space space, std::string key, std::string payload,
               KvStore::Batch& batch);
void DeleteKey(KvStore::Space space, std::string key, KvStore::Batch& batch);
void DeleteKeys(KvStore::Space space, std::string begin, std::string end,
                KvStore::Batch& batch);

// The payload under a key; null if there is none.
absl::StatusOr<absl::optional<std::string>> GetSealed(const KvStore& kv,
                                                      KvStore::Space space,
                                                      std::string_view key);

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_STORE_KEYS_H_
