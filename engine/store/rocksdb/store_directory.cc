// SPDX-License-Identifier: Apache-2.0
#include "engine/store/rocksdb/store_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/files.h"
#include "engine/base/status_macros.h"
#include "engine/store/store_errors.h"

namespace mneme {
namespace {

constexpr char kFormatPrefix[] = "mneme-store ";

absl::Status Failed(const char* action, const std::string& path) {
  return StoreUnavailable(
      absl::StrCat("cannot ", action, " ", path, ": ", std::strerror(errno)));
}

// Whether a file may be what a store that was never finished left.
bool IsOfNewStore(const std::filesystem::directory_entry& file) {
  const std::string name = file.path().filename().string();
  for (const char* prefix : {"LOCK", "LOG", "IDENTITY", "CURRENT", "MANIFEST-",
                             "OPTIONS-", "FORMAT", "COMMITTED", "blobs"}) {
    if (name.rfind(prefix, 0) == 0) return true;
  }
  std::error_code error;
  return file.path().extension() == ".dbtmp" ||
         (file.path().extension() == ".log" && file.file_size(error) == 0);
}

absl::Status SyncPath(const std::string& path, int flags) {
  const int file = open(path.c_str(), flags | O_CLOEXEC);
  if (file < 0) return Failed("open", path);
  const bool synced = fsync(file) == 0;
  const int error = errno;
  close(file);
  errno = error;
  return synced ? absl::OkStatus() : Failed("sync", path);
}

absl::Status WriteSynced(const std::string& path, std::string_view contents) {
  const int file =
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) return Failed("create", path);
  const bool written = write(file, contents.data(), contents.size()) ==
                       static_cast<ssize_t>(contents.size());
  const int error = errno;
  close(file);
  errno = error;
  if (!written) return Failed("write", path);
  return SyncPath(path, O_RDONLY);
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoreDirectory>> StoreDirectory::Lock(
    const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return Failed("create", path);
  }
  const absl::StatusOr<std::string> format =
      ReadSmallFile(path + "/FORMAT", 4096);
  if (format.ok() && *format != kFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, "/FORMAT: found \"", absl::CEscape(*format),
                     "\", want \"", absl::CEscape(kFormat), "\""));
  }
  if (!format.ok() && !absl::IsNotFound(format.status())) {
    return format.status();
  }
  if (!format.ok()) {
    std::error_code error;
    for (const auto& file : std::filesystem::directory_iterator(path, error)) {
      if (IsOfNewStore(file)) continue;
      return absl::FailedPreconditionError(
          absl::StrCat(path, " has no FORMAT, and is not empty: it holds ",
                       file.path().filename().string()));
    }
    if (error) {
      return StoreUnavailable(
          absl::StrCat("cannot list ", path, ": ", error.message()));
    }
  }
  std::unique_ptr<StoreDirectory> directory(
      new StoreDirectory(path, /*is_new=*/!format.ok()));
  MNEME_ASSIGN_OR_RETURN(directory->mark_, CommitMark::Lock(path));
  return directory;
}

absl::StatusOr<std::unique_ptr<StoreDirectory>> StoreDirectory::LockDamaged(
    const std::string& path) {
  const absl::StatusOr<std::string> format =
      ReadSmallFile(path + "/FORMAT", 4096);
  const bool whole = format.ok() && *format == kFormat;
  uint64_t version = 0;
  if (!whole && format.ok() && format->rfind(kFormatPrefix, 0) == 0 &&
      absl::SimpleAtoi(format->substr(sizeof kFormatPrefix - 1), &version) &&
      version != 2) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, "/FORMAT: found \"", absl::CEscape(*format),
                     "\", want \"", absl::CEscape(kFormat), "\""));
  }
  std::error_code error;
  if (!std::filesystem::exists(path + "/CURRENT", error) && !whole) {
    return absl::FailedPreconditionError(absl::StrCat(path, " holds no store"));
  }
  std::unique_ptr<StoreDirectory> directory(
      new StoreDirectory(path, /*is_new=*/!whole));
  MNEME_ASSIGN_OR_RETURN(directory->mark_, CommitMark::Lock(path));
  return directory;
}

absl::Status StoreDirectory::Finish() {
  if (!is_new_) return absl::OkStatus();
  MNEME_RETURN_IF_ERROR(mark_->Sync());
  const std::string format = path_ + "/FORMAT";
  MNEME_RETURN_IF_ERROR(WriteSynced(format + ".new", kFormat));
  if (rename((format + ".new").c_str(), format.c_str()) != 0) {
    return Failed("create", format);
  }
  MNEME_RETURN_IF_ERROR(SyncPath(path_, O_RDONLY | O_DIRECTORY));
  is_new_ = false;
  return absl::OkStatus();
}

}  // namespace mneme
