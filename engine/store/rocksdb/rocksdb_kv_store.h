// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_ROCKSDB_ROCKSDB_KV_STORE_H_
#define MNEME_ENGINE_STORE_ROCKSDB_ROCKSDB_KV_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/store/kv_store.h"

namespace rocksdb {
class Env;
}  // namespace rocksdb

namespace mneme {

class BlobFiles;
class StoreDirectory;

struct RocksDbOptions {
  // What is left free of the file system: with less, only writes that drop
  // something, and add little, go through. 0: nothing.
  int64_t min_free_bytes = 64 << 20;
  // For tests; outlives the store. Null: the machine's.
  rocksdb::Env* env = nullptr;
};

// In a directory of RocksDB's, with a column family for each space but kBlobs,
// whose values are files beside it: see FORMAT.md.
//
// After a failed write, the next one closes the database, cuts off its log what
// failed, and opens it again. If it cannot be opened, reads are UNAVAILABLE,
// and each call tries again; so the store works again once the machine does.
class RocksDbKvStore final : public KvStore {
 public:
  // What one takes at most of the memory: write buffers, twice while they are
  // flushed; the block cache; tables held open; the buffers of a compaction.
  static constexpr int64_t kWriteBufferBytes = 24 << 20;
  static constexpr int64_t kBlockCacheBytes = 16 << 20;
  static constexpr int64_t kMemoryBytes =
      2 * kWriteBufferBytes + kBlockCacheBytes + (32 << 20);

  // Creates the directory, for the owner alone, where there is none.
  // FAILED_PRECONDITION if another process has it open or if it is of another
  // format version; DATA_LOSS if it is damaged; UNAVAILABLE if it cannot be
  // read or written.
  static absl::StatusOr<std::unique_ptr<RocksDbKvStore>> Open(
      const std::string& directory, const RocksDbOptions& options);

  ~RocksDbKvStore() override;

  absl::Status Write(const Batch& batch, bool sync) override;
  absl::StatusOr<absl::optional<std::string>> Get(
      Space space, std::string_view key) const override;
  absl::Status Scan(
      Space space, std::string_view begin, std::string_view end,
      absl::FunctionRef<bool(std::string_view key, std::string_view value)>
          read) const override;
  absl::StatusOr<absl::optional<Entry>> Last(
      Space space, std::string_view begin, std::string_view end) const override;
  absl::StatusOr<bool> GetBlob(std::string_view key,
                               std::string& value) const override;
  absl::Status SyncBlob(std::string_view key) override;
  absl::Status ForEachBlob(
      absl::FunctionRef<void(std::string_view key)> tell) const override;
  absl::Status Compact() override;
  int64_t used_bytes() const override;
  bool durable() const override { return true; }

 private:
  struct Database;

  RocksDbKvStore(std::string directory, const RocksDbOptions& options,
                 std::unique_ptr<StoreDirectory> files,
                 std::unique_ptr<BlobFiles> blobs);

  absl::Status WriteBlobs(const Batch& batch);
  // Checks the files first, and cuts what comes behind the change `last`.
  absl::Status OpenDatabase(absl::optional<uint64_t> last) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  void CloseDatabase() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  // Makes a log that holds nothing one that tells where it begins: were its
  // first record cut short, it could not be told from one that was damaged.
  // This one is too small for that.
  absl::Status BeginLog(Database& database) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  // Notes that all up to last_sequence_ is synced.
  absl::Status MarkCommitted(Database& database) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  absl::Status CheckRoom(const Batch& batch) const;
  absl::StatusOr<std::shared_ptr<Database>> Current() const;
  // The same for who reads, and opens it again if it could not be before.
  absl::StatusOr<std::shared_ptr<Database>> Open() const;

  const std::string directory_;
  const RocksDbOptions options_;
  const std::unique_ptr<BlobFiles> blobs_;

  mutable absl::Mutex write_mutex_;  // one write at a time
  const std::unique_ptr<StoreDirectory> files_ ABSL_GUARDED_BY(write_mutex_);
  mutable bool failed_ ABSL_GUARDED_BY(write_mutex_) = false;
  // Of the last write that got through.
  mutable uint64_t last_sequence_ ABSL_GUARDED_BY(write_mutex_) = 0;

  mutable absl::Mutex mutex_;
  // Null while it cannot be opened. Those who read have a share in it.
  mutable std::shared_ptr<Database> database_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_ROCKSDB_ROCKSDB_KV_STORE_H_
