// SPDX-License-Identifier: Apache-2.0
//
// RocksDB's own logs, read strictly before RocksDB reads them.
//
// A log is blocks of 32 KiB, filled with records: a masked CRC-32C of type and
// contents, a 16-bit length, a type (whole, first, middle, last), the contents.
// Length and type are not covered alone, and RocksDB 7.8.3 has each recovery
// mode end a log quietly at some damage of theirs: all at a type with bit 2
// flipped, which it takes for a record of another log's. So logs are checked
// here, what a crash may have left at their ends is cut off, and RocksDB is
// asked to accept whole logs only.
#ifndef MNEME_ENGINE_STORE_ROCKSDB_LOG_FILES_H_
#define MNEME_ENGINE_STORE_ROCKSDB_LOG_FILES_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/store/rocksdb/commit_mark.h"

namespace mneme {

struct LogExtent {
  uint64_t whole_bytes = 0;  // whole records, from the beginning
  uint64_t file_bytes = 0;
};

// Calls `read` with where each record begins and its first bytes, up to 16,
// until it returns false; then the log counts as whole up to that record.
absl::StatusOr<LogExtent> ReadLog(
    const std::string& path,
    absl::FunctionRef<bool(uint64_t begin, std::string_view front)> read);

// Checks the manifest that `directory` uses, and cuts off an end that was not
// synced. DATA_LOSS if what was committed is not whole.
absl::Status CheckManifest(const std::string& directory,
                           const Committed& committed);

// Checks the write-ahead logs, and cuts off an end that was not synced, and
// what comes behind `last`, if that is given. DATA_LOSS, and nothing is cut, if
// what was committed is not whole.
absl::Status CheckWriteAheadLogs(const std::string& directory,
                                 const Committed& committed,
                                 absl::optional<uint64_t> last);

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_ROCKSDB_LOG_FILES_H_
