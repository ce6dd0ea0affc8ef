// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_ROCKSDB_BLOB_FILES_H_
#define MNEME_ENGINE_STORE_ROCKSDB_BLOB_FILES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "rocksdb/env.h"

namespace mneme {

// Values that are large and written once, each in a file of its own: a
// database would write them twice, and once more whenever it compacts.
// Thread-safe, but for two changes of one key at a time.
class BlobFiles {
 public:
  // In `directory`/blobs, which is created where it is not there. `env`
  // outlives it. UNAVAILABLE.
  static absl::StatusOr<std::unique_ptr<BlobFiles>> Open(
      const std::string& directory, rocksdb::Env* env);

  // The disk begins to write it. After an error, as after a crash before Sync,
  // any part of it may be there. UNAVAILABLE.
  absl::Status Put(std::string_view key, std::string_view value);
  // What was put is durable. UNAVAILABLE, and then it is dropped.
  absl::Status Sync(std::string_view key);
  // In `value`, whose memory is used again. False if it is not there.
  // UNAVAILABLE.
  absl::StatusOr<bool> Get(std::string_view key, std::string& value) const;
  // One that cannot be dropped is logged, and stays.
  void Drop(std::string_view key);
  // Tells of every key, in any order. UNAVAILABLE.
  absl::Status ForEach(
      absl::FunctionRef<void(std::string_view key)> tell) const;
  // The first call looks at every file.
  int64_t used_bytes() const;

 private:
  BlobFiles(std::string directory, rocksdb::Env* env)
      : directory_(std::move(directory)), env_(env) {}

  std::string Path(std::string_view key) const;
  // So many more are used.
  void Count(int64_t bytes);

  const std::string directory_;
  rocksdb::Env* const env_;
  std::unique_ptr<rocksdb::Directory> names_;  // to be synced
  mutable absl::Mutex mutex_;
  // Null until somebody has asked.
  mutable absl::optional<int64_t> used_bytes_ ABSL_GUARDED_BY(mutex_);
  // By key: what was put and is not synced.
  std::map<std::string, std::unique_ptr<rocksdb::WritableFile>, std::less<>>
      unsynced_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_ROCKSDB_BLOB_FILES_H_
