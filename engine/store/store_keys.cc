// SPDX-License-Identifier: Apache-2.0
#include "engine/store/store_keys.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/coding.h"
#include "engine/base/crc32c.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

constexpr char kVersion = 2;  // of a sealed value
constexpr size_t kCrcBytes = 4;
constexpr size_t kSealBytes = 1 + kCrcBytes;

void AppendBigEndian(uint64_t number, int bytes, std::string& key) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    key.push_back(static_cast<char>(number >> shift));
  }
}

std::string Joined(std::string_view prefix, std::string_view rest) {
  std::string key(prefix);
  key.append(rest);
  return key;
}

uint32_t CrcOf(KvStore::Space space, std::string_view key,
               std::string_view versioned) {
  const char space_byte = static_cast<char>(space);
  char key_bytes[8];
  EncodeFixed64(key.size(), key_bytes);
  uint32_t crc = Crc32c({&space_byte, 1});
  crc = ExtendCrc32c(crc, {key_bytes, sizeof key_bytes});
  crc = ExtendCrc32c(crc, key);
  return ExtendCrc32c(crc, versioned);
}

}  // namespace

absl::StatusOr<std::string> UidBytes(const std::string& hex) {
  const bool digits =
      hex.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (hex.size() != 32 || !digits) {
    return absl::InvalidArgumentError(
        absl::StrCat("uid: found ", hex, ", want 32 hex digits"));
  }
  return absl::HexStringToBytes(hex);
}

std::string UidHex(std::string_view bytes) {
  return absl::BytesToHexString({bytes.data(), bytes.size()});
}

std::string RecordKey(std::string_view uid) {
  return Joined(kRecordPrefix, uid);
}

std::string ActiveKey(std::string_view uid) {
  return Joined(kActivePrefix, uid);
}

std::string RequestKey(uint64_t number) {
  std::string key = kRequestPrefix;
  AppendBigEndian(number, 8, key);
  return key;
}

std::string JournalKey(std::string_view uid, uint64_t seq) {
  std::string key(uid);
  AppendBigEndian(seq, 8, key);
  return key;
}

std::string BlobKey(uint64_t blob) {
  std::string key;
  AppendBigEndian(blob, 8, key);
  return key;
}

std::string BehindPrefix(std::string_view prefix) {
  std::string key(prefix);
  while (!key.empty() && key.back() == '\xff') key.pop_back();
  if (!key.empty()) ++key.back();
  return key;
}

absl::StatusOr<uint64_t> NumberAtEnd(std::string_view key) {
  if (key.size() < 8) {
    return absl::DataLossError(
        absl::StrCat("a key of ", key.size(), " bytes ends with no number"));
  }
  uint64_t number = 0;
  for (const char byte : key.substr(key.size() - 8)) {
    number = number << 8 | static_cast<uint8_t>(byte);
  }
  return number;
}

std::string Seal(KvStore::Space space, std::string_view key,
                 std::string payload) {
  payload.push_back(kVersion);
  char crc[kCrcBytes];
  EncodeFixed32(CrcOf(space, key, payload), crc);
  payload.append(crc, sizeof crc);
  return payload;
}

absl::StatusOr<std::string_view> Unseal(KvStore::Space space,
                                        std::string_view key,
                                        std::string_view value) {
  if (value.size() < kSealBytes) {
    return absl::DataLossError(absl::StrCat("a stored value of ", value.size(),
                                            " bytes is cut short"));
  }
  const std::string_view versioned = value.substr(0, value.size() - kCrcBytes);
  const uint32_t want = DecodeFixed32(value.data() + versioned.size());
  if (CrcOf(space, key, versioned) != want) {
    return absl::DataLossError("a stored value fails its checksum");
  }
  if (versioned.back() != kVersion) {
    return absl::DataLossError(
        absl::StrCat("a stored value has format version ",
                     static_cast<int>(versioned.back()), ", want ",
                     static_cast<int>(kVersion)));
  }
  return value.substr(0, value.size() - kSealBytes);
}

void PutSealed(KvStore::Space space, std::string key, std::string payload,
               KvStore::Batch& batch) {
  std::string value = Seal(space, key, std::move(payload));
  batch.push_back({.kind = KvStore::Change::Kind::kPut,
                   .space = space,
                   .key = std::move(key),
                   .value = std::move(value)});
}

void DeleteKey(KvStore::Space space, std::string key, KvStore::Batch& batch) {
  batch.push_back({.kind = KvStore::Change::Kind::kDelete,
                   .space = space,
                   .key = std::move(key),
                   .value = {}});
}

void DeleteKeys(KvStore::Space space, std::string begin, std::string end,
                KvStore::Batch& batch) {
  batch.push_back({.kind = KvStore::Change::Kind::kDeleteRange,
                   .space = space,
                   .key = std::move(begin),
                   .value = std::move(end)});
}

absl::StatusOr<absl::optional<std::string>> GetSealed(const KvStore& kv,
                                                      KvStore::Space space,
                                                      std::string_view key) {
  MNEME_ASSIGN_OR_RETURN(absl::optional<std::string> value, kv.Get(space, key));
  if (!value.has_value()) return value;
  MNEME_ASSIGN_OR_RETURN(const std::string_view payload,
                         Unseal(space, key, *value));
  value->resize(payload.size());
  return value;
}

}  // namespace mneme
