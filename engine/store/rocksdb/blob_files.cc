// SPDX-License-Identifier: Apache-2.0
#include "engine/store/rocksdb/blob_files.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/store/store_errors.h"

namespace mneme {
namespace {

constexpr char kSuffix[] = ".blob";

absl::Status Checked(const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return StoreUnavailable(status.ToString());
}

// The key of a file; null if it is none of ours.
absl::optional<std::string> KeyOf(const std::string& name) {
  absl::string_view digits = name;
  if (!absl::ConsumeSuffix(&digits, kSuffix)) return absl::nullopt;
  const std::string key = absl::HexStringToBytes(digits);
  if (absl::BytesToHexString(key) != digits) return absl::nullopt;
  return key;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlobFiles>> BlobFiles::Open(
    const std::string& directory, rocksdb::Env* env) {
  std::unique_ptr<BlobFiles> files(new BlobFiles(directory + "/blobs", env));
  MNEME_RETURN_IF_ERROR(Checked(env->CreateDirIfMissing(files->directory_)));
  MNEME_RETURN_IF_ERROR(
      Checked(env->NewDirectory(files->directory_, &files->names_)));
  return files;
}

std::string BlobFiles::Path(std::string_view key) const {
  return absl::StrCat(directory_, "/",
                      absl::BytesToHexString({key.data(), key.size()}),
                      kSuffix);
}

absl::Status BlobFiles::Put(std::string_view key, std::string_view value) {
  const std::string path = Path(key);
  std::unique_ptr<rocksdb::WritableFile> file;
  MNEME_RETURN_IF_ERROR(
      Checked(env_->NewWritableFile(path, &file, rocksdb::EnvOptions())));
  const rocksdb::Status written = file->Append({value.data(), value.size()});
  if (!written.ok()) {
    // Here, because it is not counted; what stays goes at the next opening.
    env_->DeleteFile(path).PermitUncheckedError();
    return Checked(written);
  }
  file->RangeSync(0, value.size()).PermitUncheckedError();  // a hint
  Count(static_cast<int64_t>(value.size()));
  const absl::MutexLock lock(&mutex_);
  unsynced_[std::string(key)] = std::move(file);
  return absl::OkStatus();
}

absl::Status BlobFiles::Sync(std::string_view key) {
  std::unique_ptr<rocksdb::WritableFile> file;
  {
    const absl::MutexLock lock(&mutex_);
    const auto found = unsynced_.find(key);
    if (found == unsynced_.end()) return absl::OkStatus();
    file = std::move(found->second);
    unsynced_.erase(found);
  }
  rocksdb::Status status = file->Sync();
  if (status.ok()) status = file->Close();
  if (status.ok()) status = names_->Fsync();
  if (!status.ok()) Drop(key);
  return Checked(status);
}

absl::StatusOr<bool> BlobFiles::Get(std::string_view key,
                                    std::string& value) const {
  const std::string path = Path(key);
  std::unique_ptr<rocksdb::RandomAccessFile> file;
  rocksdb::Status status =
      env_->NewRandomAccessFile(path, &file, rocksdb::EnvOptions());
  uint64_t size = 0;
  if (status.ok()) status = env_->GetFileSize(path, &size);
  if (status.IsNotFound() || status.IsPathNotFound()) return false;
  MNEME_RETURN_IF_ERROR(Checked(status));
  value.resize(size);
  if (size == 0) return true;
  rocksdb::Slice read;
  MNEME_RETURN_IF_ERROR(Checked(file->Read(0, size, &read, value.data())));
  if (read.data() != value.data()) value.assign(read.data(), read.size());
  value.resize(read.size());
  return true;
}

void BlobFiles::Drop(std::string_view key) {
  {
    const absl::MutexLock lock(&mutex_);
    unsynced_.erase(std::string(key));
  }
  const std::string path = Path(key);
  uint64_t size = 0;
  rocksdb::Status status = env_->GetFileSize(path, &size);
  if (status.ok()) status = env_->DeleteFile(path);
  if (status.IsNotFound() || status.IsPathNotFound()) return;
  if (!status.ok()) {
    LogWarning("cannot drop ", path, ": ", status.ToString());
    return;
  }
  Count(-static_cast<int64_t>(size));
}

absl::Status BlobFiles::ForEach(
    absl::FunctionRef<void(std::string_view key)> tell) const {
  std::error_code error;
  for (std::filesystem::directory_iterator file(directory_, error), end;
       !error && file != end; file.increment(error)) {
    const absl::optional<std::string> key =
        KeyOf(file->path().filename().string());
    if (key.has_value()) tell(*key);
  }
  if (!error) return absl::OkStatus();
  return StoreUnavailable(
      absl::StrCat("cannot list ", directory_, ": ", error.message()));
}

int64_t BlobFiles::used_bytes() const {
  const absl::MutexLock lock(&mutex_);
  if (used_bytes_.has_value()) return *used_bytes_;
  int64_t bytes = 0;
  std::error_code error;
  for (const auto& file :
       std::filesystem::directory_iterator(directory_, error)) {
    std::error_code gone;
    const auto size = file.file_size(gone);
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  used_bytes_ = bytes;
  return bytes;
}

void BlobFiles::Count(int64_t bytes) {
  const absl::MutexLock lock(&mutex_);
  if (used_bytes_.has_value()) *used_bytes_ += bytes;
}

}  // namespace mneme
