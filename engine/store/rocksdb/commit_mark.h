// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_ROCKSDB_COMMIT_MARK_H_
#define MNEME_ENGINE_STORE_ROCKSDB_COMMIT_MARK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"

namespace mneme {

// What a database's files must at least hold.
struct Committed {
  uint64_t sequence = 0;         // of the last change that was synced
  uint64_t manifest_number = 0;  // of the manifest then
  uint64_t manifest_bytes = 0;   // that were synced of it

  bool operator==(const Committed&) const = default;
};

// A file beside a database that says what was committed to it. RocksDB takes
// some damage near the end of a log for a write that a crash cut short, and
// forgets what comes after; by this file such damage is told from a crash.
//
// It is written after each commit without a sync of its own: a crash of the
// process leaves it exact; a loss of power may leave it as it was some seconds
// before, never ahead of the database. Two slots are written in turn, so that
// one is whole at any time. The file also is the store's lock.
class CommitMark {
 public:
  static constexpr char kFileName[] = "COMMITTED";

  // Creates the file where there is none. FAILED_PRECONDITION, naming the
  // directory, if another process has it; UNAVAILABLE if it cannot be opened.
  static absl::StatusOr<std::unique_ptr<CommitMark>> Lock(
      const std::string& directory);
  ~CommitMark();
  CommitMark(const CommitMark&) = delete;
  CommitMark& operator=(const CommitMark&) = delete;

  // Null if nothing was ever committed, or nothing legible is there.
  const absl::optional<Committed>& committed() const { return committed_; }
  absl::Status Update(const Committed& committed);
  absl::Status Sync();

 private:
  CommitMark(std::string path, int file)
      : path_(std::move(path)), file_(file) {}

  absl::Status Read();

  const std::string path_;
  const int file_;
  uint64_t updates_ = 0;
  absl::optional<Committed> committed_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_ROCKSDB_COMMIT_MARK_H_
