// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_
#define MNEME_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "rocksdb/file_system.h"

namespace mneme {

// A file system that fails as it is told to: when it is full, with half of
// what was to be written.
class FaultFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  enum class Fault { kFull, kAppendFails, kSyncFails };

  FaultFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "FaultFileSystem"; }

  // The n-th append or sync from now fails, and all after it until Heal.
  // 1: the next.
  void Fail(Fault fault, int n) {
    fault_ = fault;
    countdown_ = n;
  }
  void Heal() {
    countdown_ = 0;
    failing_ = false;
  }
  bool failing() const { return failing_; }
  void SetFreeBytes(uint64_t bytes) { free_bytes_ = bytes; }

  rocksdb::IOStatus NewWritableFile(
      const std::string& name, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSWritableFile>* file,
      rocksdb::IODebugContext* debug) override {
    std::unique_ptr<rocksdb::FSWritableFile> real;
    rocksdb::IOStatus status =
        target()->NewWritableFile(name, options, &real, debug);
    if (status.ok()) *file = std::make_unique<File>(std::move(real), this);
    return status;
  }
  rocksdb::IOStatus GetFreeSpace(const std::string& path,
                                 const rocksdb::IOOptions& options,
                                 uint64_t* bytes,
                                 rocksdb::IODebugContext* debug) override {
    if (free_bytes_ == UINT64_MAX) {
      return target()->GetFreeSpace(path, options, bytes, debug);
    }
    *bytes = free_bytes_;
    return rocksdb::IOStatus::OK();
  }

 private:
  class File final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(std::unique_ptr<rocksdb::FSWritableFile> real, FaultFileSystem* faults)
        : FSWritableFileOwnerWrapper(std::move(real)), faults_(faults) {}

    rocksdb::IOStatus Append(const rocksdb::Slice& data,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
      if (!faults_->Fails(/*sync=*/false)) {
        return FSWritableFileOwnerWrapper::Append(data, options, debug);
      }
      const rocksdb::Slice half(data.data(), data.size() / 2);
      FSWritableFileOwnerWrapper::Append(half, options, debug)
          .PermitUncheckedError();
      return faults_->fault_ == Fault::kFull
                 ? rocksdb::IOStatus::NoSpace("a full disk that was asked for")
                 : rocksdb::IOStatus::IOError("a fault that was asked for");
    }
    rocksdb::IOStatus Append(
        const rocksdb::Slice& data, const rocksdb::IOOptions& options,
        const rocksdb::DataVerificationInfo& /*verification*/,
        rocksdb::IODebugContext* debug) override {
      return Append(data, options, debug);
    }
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
      if (faults_->Fails(/*sync=*/true)) {
        return rocksdb::IOStatus::IOError("a fault that was asked for");
      }
      return FSWritableFileOwnerWrapper::Sync(options, debug);
    }
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                            rocksdb::IODebugContext* debug) override {
      return Sync(options, debug);
    }

   private:
    FaultFileSystem* const faults_;
  };

  bool Fails(bool sync) {
    if (sync != (fault_ == Fault::kSyncFails)) return false;
    if (countdown_ > 0 && --countdown_ == 0) failing_ = true;
    return failing_;
  }

  std::atomic<Fault> fault_ = Fault::kFull;
  std::atomic<int> countdown_ = 0;
  std::atomic<bool> failing_ = false;
  std::atomic<uint64_t> free_bytes_ = UINT64_MAX;
};

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_
