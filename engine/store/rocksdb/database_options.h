// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_ROCKSDB_DATABASE_OPTIONS_H_
#define MNEME_ENGINE_STORE_ROCKSDB_DATABASE_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "rocksdb/db.h"
#include "rocksdb/options.h"

namespace mneme {

// `env` null: the machine's.
rocksdb::DBOptions DatabaseOptions(rocksdb::Env* env);
// RocksDB's default one, unused, and then one for each KvStore::Space.
std::vector<rocksdb::ColumnFamilyDescriptor> ColumnFamilies();

// DATA_LOSS if the files are damaged, else UNAVAILABLE; names `what`.
absl::Status ToStatus(const rocksdb::Status& status, const std::string& what);

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_ROCKSDB_DATABASE_OPTIONS_H_
