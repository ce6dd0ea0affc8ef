// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_ROCKSDB_STORE_DIRECTORY_H_
#define MNEME_ENGINE_STORE_ROCKSDB_STORE_DIRECTORY_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/store/rocksdb/commit_mark.h"

namespace mneme {

// The directory of a store: RocksDB's files, blobs, a commit mark, and a FORMAT
// file that is written once the database is there. Locked while the object
// lives.
class StoreDirectory {
 public:
  static constexpr char kFormat[] = "mneme-store 2\n";

  // Creates the directory, for the owner alone, where there is none.
  // FAILED_PRECONDITION if another process has it open, if it is of another
  // format version, or if it holds something else.
  static absl::StatusOr<std::unique_ptr<StoreDirectory>> Lock(
      const std::string& path);

  // The same for one whose FORMAT is missing or damaged, which counts as new.
  // FAILED_PRECONDITION if it is of another version, or is not there.
  static absl::StatusOr<std::unique_ptr<StoreDirectory>> LockDamaged(
      const std::string& path);

  // No database was ever made in it.
  bool is_new() const { return is_new_; }
  // The database is made, and `mark` says what it holds.
  absl::Status Finish();

  CommitMark& mark() { return *mark_; }

 private:
  StoreDirectory(std::string path, bool is_new)
      : path_(std::move(path)), is_new_(is_new) {}

  const std::string path_;
  bool is_new_;
  std::unique_ptr<CommitMark> mark_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_ROCKSDB_STORE_DIRECTORY_H_
