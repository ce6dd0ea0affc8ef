// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_FAULT_POWER_LOSS_FILE_SYSTEM_H_
#define MNEME_TESTS_FAULT_POWER_LOSS_FILE_SYSTEM_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "rocksdb/file_system.h"

namespace mneme {

// The files of one store's directory and of those in it, until the power goes
// at a chosen moment. What is left then is put into another directory:
//
//   - of each file what was synced, and of what was written behind that all,
//     nothing, or the sectors up to where chance says;
//   - the names as they were when their directory was last synced, and of what
//     was done to names since, as much, in its order, as chance says;
//   - of COMMITTED, which is written past this, each of its two slots as it
//     was at some moment since the start.
//
// From that moment on everything that would change a file fails, and changes
// nothing. Nothing is really synced.
class PowerLossFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  // What lies in `directory` is there to stay. The power goes at the `calls`-th
  // call that changes something (0: never), and leaves `left`; `seed` is
  // chance.
  PowerLossFileSystem(std::string directory, std::string left, int64_t calls,
                      unsigned seed);

  const char* Name() const override { return "PowerLossFileSystem"; }

  // Whether the power is gone.
  bool lost() const { return lost_; }
  // Now, if it did not go by itself.
  void Lose();
  int64_t calls() const { return calls_; }

  rocksdb::IOStatus NewWritableFile(
      const std::string& name, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSWritableFile>* file,
      rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus ReopenWritableFile(
      const std::string& name, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSWritableFile>* file,
      rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus ReuseWritableFile(
      const std::string& name, const std::string& old_name,
      const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSWritableFile>* file,
      rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus NewDirectory(const std::string& name,
                                 const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* file,
                                 rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus DeleteFile(const std::string& name,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus LinkFile(const std::string& from, const std::string& to,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus Truncate(const std::string& name, size_t bytes,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override;

 private:
  class File;
  class Directory;

  // A file whatever its names.
  struct Contents {
    std::string path;      // where it really lies
    bool written = false;  // by this; else all of it is there to stay
    uint64_t bytes = 0;
    uint64_t synced_bytes = 0;
  };
  // By path from the directory.
  using Names = std::map<std::string, std::shared_ptr<Contents>>;

  // Counts a call that changes something; `change` makes it, unless the power
  // is gone.
  rocksdb::IOStatus Change(const std::function<rocksdb::IOStatus()>& change);
  // Something done to names of one directory, of which `name` is one.
  void Rename(const std::string& name, std::function<void(Names&)> change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What was done to the names of `directory`, a path from the store's.
  void SyncNames(const std::string& directory)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes what `name` stands for out of the way, if there is something.
  void SetAside(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteCommitMark() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LoseLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The path of a file from the directory.
  std::string NameOf(const std::string& path) const;
  bool Holds(const std::string& path) const;

  const std::string directory_;
  const std::string left_;
  const int64_t lose_at_;
  std::atomic<bool> lost_ = false;
  std::atomic<int64_t> calls_ = 0;

  absl::Mutex mutex_;
  std::mt19937 random_ ABSL_GUARDED_BY(mutex_);
  Names names_ ABSL_GUARDED_BY(mutex_);
  Names synced_names_ ABSL_GUARDED_BY(mutex_);
  struct Renaming {
    std::string directory;
    std::function<void(Names&)> change;
  };
  std::vector<Renaming> renames_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> commit_marks_ ABSL_GUARDED_BY(mutex_);
  int aside_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mneme

#endif  // MNEME_TESTS_FAULT_POWER_LOSS_FILE_SYSTEM_H_
