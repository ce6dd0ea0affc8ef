// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_ROCKSDB_SALVAGE_DATABASE_H_
#define MNEME_ENGINE_STORE_ROCKSDB_SALVAGE_DATABASE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/store/rocksdb/rocksdb_kv_store.h"

namespace mneme {

// What was done to a damaged database.
struct DatabaseSalvage {
  // All that was ever committed is known to be there, but for contents that
  // fail their checksums when they are read.
  bool complete = true;
  std::vector<std::string> actions;  // a sentence each
};

// Makes a database that is damaged one that opens, with as much of its contents
// as can be read. Errors as of RocksDbKvStore::Open.
absl::Status SalvageDatabase(const std::string& directory,
                             const RocksDbOptions& options,
                             DatabaseSalvage& salvage);

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_ROCKSDB_SALVAGE_DATABASE_H_
