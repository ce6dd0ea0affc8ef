// SPDX-License-Identifier: Apache-2.0
#include "engine/store/rocksdb/commit_mark.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_coder.h"
#include "engine/base/crc32c.h"
#include "engine/base/status_macros.h"
#include "engine/store/store_errors.h"

namespace mneme {
namespace {

// Each in a sector of its own.
constexpr off_t kSlotStride = 512;
constexpr size_t kSlotBytes = 4 * 8 + 4;
constexpr uint64_t kSlots = 2;

absl::Status Failed(const char* action, const std::string& path) {
  return StoreUnavailable(
      absl::StrCat("cannot ", action, " ", path, ": ", std::strerror(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CommitMark>> CommitMark::Lock(
    const std::string& directory) {
  std::string path = directory + "/" + kFileName;
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return Failed("open", path);
  std::unique_ptr<CommitMark> mark(new CommitMark(std::move(path), file));
  if (flock(file, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Failed("lock", mark->path_);
    return absl::FailedPreconditionError(
        absl::StrCat(directory, " is open in another process"));
  }
  MNEME_RETURN_IF_ERROR(mark->Read());
  return mark;
}

CommitMark::~CommitMark() { close(file_); }

absl::Status CommitMark::Read() {
  for (uint64_t slot = 0; slot < kSlots; ++slot) {
    char bytes[kSlotBytes];
    const ssize_t count = pread(file_, bytes, sizeof bytes,
                                static_cast<off_t>(slot) * kSlotStride);
    if (count < 0) return Failed("read", path_);
    if (count != sizeof bytes) continue;
    const std::string_view numbers(bytes, kSlotBytes - 4);
    ByteReader in({bytes, sizeof bytes});
    const uint64_t update = in.U64();
    Committed committed;
    committed.sequence = in.U64();
    committed.manifest_number = in.U64();
    committed.manifest_bytes = in.U64();
    if (in.U32() != Crc32c(numbers) || update % kSlots != slot) continue;
    if (committed_.has_value() && update < updates_) continue;
    updates_ = update;
    committed_ = committed;
  }
  return absl::OkStatus();
}

absl::Status CommitMark::Update(const Committed& committed) {
  std::string bytes;
  ByteWriter out(bytes);
  const uint64_t update = updates_ + 1;
  out.U64(update);
  out.U64(committed.sequence);
  out.U64(committed.manifest_number);
  out.U64(committed.manifest_bytes);
  out.U32(Crc32c(bytes));
  const off_t place = static_cast<off_t>(update % kSlots) * kSlotStride;
  if (pwrite(file_, bytes.data(), bytes.size(), place) !=
      static_cast<ssize_t>(bytes.size())) {
    return Failed("write", path_);
  }
  updates_ = update;
  committed_ = committed;
  return absl::OkStatus();
}

absl::Status CommitMark::Sync() {
  if (fsync(file_) != 0) return Failed("sync", path_);
  return absl::OkStatus();
}

}  // namespace mneme
