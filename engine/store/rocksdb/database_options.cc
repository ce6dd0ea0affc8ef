// SPDX-License-Identifier: Apache-2.0
#include "engine/store/rocksdb/database_options.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/store/rocksdb/rocksdb_kv_store.h"
#include "engine/store/store_errors.h"
#include "rocksdb/cache.h"
#include "rocksdb/table.h"

namespace mneme {
namespace {

constexpr uint64_t kMiB = 1 << 20;

rocksdb::ColumnFamilyOptions FamilyOptions(
    uint64_t write_buffer_bytes, const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.cache_index_and_filter_blocks = true;
  table.checksum = rocksdb::kCRC32c;
  rocksdb::ColumnFamilyOptions options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.write_buffer_size = write_buffer_bytes;
  options.max_write_buffer_number = 2;
  options.compression = rocksdb::kNoCompression;
  options.bottommost_compression = rocksdb::kNoCompression;
  options.target_file_size_base = 16 * kMiB;
  options.max_bytes_for_level_base = 64 * kMiB;
  options.paranoid_file_checks = true;
  return options;
}

}  // namespace

rocksdb::DBOptions DatabaseOptions(rocksdb::Env* env) {
  rocksdb::DBOptions options;
  if (env != nullptr) options.env = env;
  options.paranoid_checks = true;
  options.track_and_verify_wals_in_manifest = true;
  // What a crash leaves at the logs' ends was cut off before: see log_files.h.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kAbsoluteConsistency;
  options.atomic_flush = true;
  options.db_write_buffer_size = RocksDbKvStore::kWriteBufferBytes;
  options.max_total_wal_size = 64 * kMiB;
  options.max_open_files = 256;
  options.max_background_jobs = 2;
  options.max_file_opening_threads = 1;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.max_log_file_size = kMiB;
  options.keep_log_file_num = 2;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.max_bgerror_resume_count = 0;
  return options;
}

std::vector<rocksdb::ColumnFamilyDescriptor> ColumnFamilies() {
  const std::shared_ptr<rocksdb::Cache> cache =
      rocksdb::NewLRUCache(RocksDbKvStore::kBlockCacheBytes);
  return {{rocksdb::kDefaultColumnFamilyName, FamilyOptions(kMiB, cache)},
          {"meta", FamilyOptions(8 * kMiB, cache)},
          {"journal", FamilyOptions(16 * kMiB, cache)}};
}

absl::Status ToStatus(const rocksdb::Status& status, const std::string& what) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat(what, ": ", status.ToString());
  // A store that is of the wrong form or lacks files is damaged too.
  if (status.IsCorruption() || status.IsInvalidArgument() ||
      status.IsPathNotFound()) {
    return absl::DataLossError(message);
  }
  return StoreUnavailable(message);
}

}  // namespace mneme
