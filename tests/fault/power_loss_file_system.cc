// SPDX-License-Identifier: Apache-2.0
#include "tests/fault/power_loss_file_system.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

namespace fs = std::filesystem;
using rocksdb::IOStatus;

constexpr char kCommitted[] = "COMMITTED";
// What a disk writes as a whole.
constexpr uint64_t kSector = 512;
constexpr size_t kSlotBytes = kSector;

IOStatus Gone() { return IOStatus::IOError("the power is gone"); }

std::string DirectoryOf(const std::string& name) {
  return fs::path(name).parent_path().string();
}

}  // namespace

class PowerLossFileSystem::File final
    : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  File(std::unique_ptr<rocksdb::FSWritableFile> real, PowerLossFileSystem* all,
       std::shared_ptr<Contents> contents)
      : FSWritableFileOwnerWrapper(std::move(real)),
        all_(all),
        contents_(std::move(contents)) {}

  IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                  rocksdb::IODebugContext* debug) override {
    return all_->Change([&] {
      IOStatus status =
          FSWritableFileOwnerWrapper::Append(data, options, debug);
      if (status.ok()) contents_->bytes += data.size();
      return status;
    });
  }
  IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                  const rocksdb::DataVerificationInfo& /*verification*/,
                  rocksdb::IODebugContext* debug) override {
    return Append(data, options, debug);
  }
  IOStatus PositionedAppend(const rocksdb::Slice&, uint64_t,
                            const rocksdb::IOOptions&,
                            rocksdb::IODebugContext*) override {
    return IOStatus::NotSupported("files are written in order");
  }
  // Cuts off what was reserved, and no more.
  IOStatus Truncate(uint64_t bytes, const rocksdb::IOOptions& options,
                    rocksdb::IODebugContext* debug) override {
    return all_->Change([&] {
      return FSWritableFileOwnerWrapper::Truncate(bytes, options, debug);
    });
  }
  IOStatus Sync(const rocksdb::IOOptions& /*options*/,
                rocksdb::IODebugContext* /*debug*/) override {
    return all_->Change([&] {
      contents_->synced_bytes = contents_->bytes;
      return IOStatus::OK();
    });
  }
  IOStatus Fsync(const rocksdb::IOOptions& options,
                 rocksdb::IODebugContext* debug) override {
    return Sync(options, debug);
  }

 private:
  PowerLossFileSystem* const all_;
  const std::shared_ptr<Contents> contents_;
};

class PowerLossFileSystem::Directory final : public rocksdb::FSDirectory {
 public:
  Directory(std::unique_ptr<rocksdb::FSDirectory> real,
            PowerLossFileSystem* all, std::string name)
      : real_(std::move(real)), all_(all), name_(std::move(name)) {}

  IOStatus Fsync(const rocksdb::IOOptions& /*options*/,
                 rocksdb::IODebugContext* /*debug*/) override {
    return all_->Change([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      all_->SyncNames(name_);
      return IOStatus::OK();
    });
  }
  IOStatus Close(const rocksdb::IOOptions& options,
                 rocksdb::IODebugContext* debug) override {
    return real_->Close(options, debug);
  }

 private:
  const std::unique_ptr<rocksdb::FSDirectory> real_;
  PowerLossFileSystem* const all_;
  const std::string name_;
};

PowerLossFileSystem::PowerLossFileSystem(std::string directory,
                                         std::string left, int64_t calls,
                                         unsigned seed)
    : FileSystemWrapper(rocksdb::FileSystem::Default()),
      directory_(std::move(directory)),
      left_(std::move(left)),
      lose_at_(calls),
      random_(seed) {
  fs::create_directory(directory_ + ".aside");
  if (!fs::exists(directory_)) return;
  const absl::MutexLock lock(&mutex_);
  for (const auto& file : fs::recursive_directory_iterator(directory_)) {
    if (!file.is_regular_file()) continue;
    const std::string path = file.path().string();
    names_[NameOf(path)] = std::make_shared<Contents>(Contents{.path = path});
  }
  synced_names_ = names_;
  NoteCommitMark();
}

std::string PowerLossFileSystem::NameOf(const std::string& path) const {
  return fs::path(path).lexically_relative(directory_).string();
}

bool PowerLossFileSystem::Holds(const std::string& path) const {
  return path.rfind(directory_ + "/", 0) == 0;
}

void PowerLossFileSystem::Rename(const std::string& name,
                                 std::function<void(Names&)> change) {
  change(names_);
  renames_.push_back({DirectoryOf(name), std::move(change)});
}

void PowerLossFileSystem::SyncNames(const std::string& directory) {
  std::vector<Renaming> others;
  for (Renaming& renaming : renames_) {
    if (renaming.directory == directory) {
      renaming.change(synced_names_);
    } else {
      others.push_back(std::move(renaming));
    }
  }
  renames_ = std::move(others);
}

void PowerLossFileSystem::SetAside(const std::string& name) {
  const auto found = names_.find(NameOf(name));
  if (found == names_.end()) return;
  const std::string path = absl::StrCat(directory_, ".aside/", aside_++);
  std::error_code error;
  fs::rename(name, path, error);
  if (!error) found->second->path = path;
}

void PowerLossFileSystem::NoteCommitMark() {
  std::error_code error;
  const std::string path = absl::StrCat(directory_, "/", kCommitted);
  if (!fs::exists(path, error)) return;
  std::string mark = ReadFile(path);
  if (!commit_marks_.empty() && commit_marks_.back() == mark) return;
  commit_marks_.push_back(std::move(mark));
}

IOStatus PowerLossFileSystem::Change(const std::function<IOStatus()>& change) {
  const absl::MutexLock lock(&mutex_);
  if (lost_) return Gone();
  if (++calls_ == lose_at_) {
    LoseLocked();
    return Gone();
  }
  NoteCommitMark();
  return change();
}

void PowerLossFileSystem::Lose() {
  const absl::MutexLock lock(&mutex_);
  if (!lost_) LoseLocked();
}

void PowerLossFileSystem::LoseLocked() {
  lost_ = true;
  NoteCommitMark();
  fs::create_directory(left_);
  Names names = synced_names_;
  const size_t done = random_() % (renames_.size() + 1);
  for (size_t i = 0; i < done; ++i) renames_[i].change(names);
  // What others made past this.
  for (const auto& file : fs::recursive_directory_iterator(directory_)) {
    const std::string path = file.path().string();
    if (file.is_directory()) {
      fs::create_directory(absl::StrCat(left_, "/", NameOf(path)));
      continue;
    }
    if (names_.count(NameOf(path)) == 0 && names.count(NameOf(path)) == 0) {
      names[NameOf(path)] = std::make_shared<Contents>(Contents{.path = path});
    }
  }
  for (const auto& [name, contents] : names) {
    const std::string to = absl::StrCat(left_, "/", name);
    std::error_code error;
    fs::copy_file(contents->path, to, error);
    if (error || !contents->written) continue;
    const uint64_t unsynced = contents->bytes - contents->synced_bytes;
    uint64_t bytes = contents->synced_bytes;
    // Nothing of it, all of it, or it is torn.
    switch (random_() % 3) {
      case 0:
        break;
      case 1:
        bytes += unsynced;
        break;
      default:
        bytes += random_() % (unsynced + 1);
        bytes = std::max(contents->synced_bytes, bytes - bytes % kSector);
    }
    if (bytes < fs::file_size(to)) fs::resize_file(to, bytes);
  }
  if (!commit_marks_.empty()) {
    const auto any = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return random_() % commit_marks_.size();
    };
    const std::string& first = commit_marks_[any()];
    const std::string& second = commit_marks_[any()];
    std::string mark = first.substr(0, kSlotBytes);
    if (second.size() > kSlotBytes) {
      mark.resize(kSlotBytes, '\0');
      mark += second.substr(kSlotBytes);
    }
    WriteFile(absl::StrCat(left_, "/", kCommitted), mark);
  }
}

IOStatus PowerLossFileSystem::NewWritableFile(
    const std::string& name, const rocksdb::FileOptions& options,
    std::unique_ptr<rocksdb::FSWritableFile>* file,
    rocksdb::IODebugContext* debug) {
  if (!Holds(name)) {
    return target()->NewWritableFile(name, options, file, debug);
  }
  return Change([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    SetAside(name);
    std::unique_ptr<rocksdb::FSWritableFile> real;
    IOStatus status = target()->NewWritableFile(name, options, &real, debug);
    if (!status.ok()) return status;
    const auto contents =
        std::make_shared<Contents>(Contents{.path = name, .written = true});
    const std::string key = NameOf(name);
    Rename(key, [key, contents](Names& names) { names[key] = contents; });
    *file = std::make_unique<File>(std::move(real), this, contents);
    return status;
  });
}

IOStatus PowerLossFileSystem::ReopenWritableFile(
    const std::string& /*name*/, const rocksdb::FileOptions& /*options*/,
    std::unique_ptr<rocksdb::FSWritableFile>* /*file*/,
    rocksdb::IODebugContext* /*debug*/) {
  return IOStatus::NotSupported("files are written once");
}

IOStatus PowerLossFileSystem::ReuseWritableFile(
    const std::string& /*name*/, const std::string& /*old_name*/,
    const rocksdb::FileOptions& /*options*/,
    std::unique_ptr<rocksdb::FSWritableFile>* /*file*/,
    rocksdb::IODebugContext* /*debug*/) {
  return IOStatus::NotSupported("files are written once");
}

IOStatus PowerLossFileSystem::NewDirectory(
    const std::string& name, const rocksdb::IOOptions& options,
    std::unique_ptr<rocksdb::FSDirectory>* file,
    rocksdb::IODebugContext* debug) {
  std::unique_ptr<rocksdb::FSDirectory> real;
  IOStatus status = target()->NewDirectory(name, options, &real, debug);
  if (status.ok()) {
    const std::string from = NameOf(name);
    *file = std::make_unique<Directory>(std::move(real), this,
                                        from == "." ? "" : from);
  }
  return status;
}

IOStatus PowerLossFileSystem::DeleteFile(const std::string& name,
                                         const rocksdb::IOOptions& options,
                                         rocksdb::IODebugContext* debug) {
  return Change([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (names_.count(NameOf(name)) == 0) {
      return target()->DeleteFile(name, options, debug);
    }
    SetAside(name);
    const std::string key = NameOf(name);
    Rename(key, [key](Names& names) { names.erase(key); });
    return IOStatus::OK();
  });
}

IOStatus PowerLossFileSystem::RenameFile(const std::string& from,
                                         const std::string& to,
                                         const rocksdb::IOOptions& options,
                                         rocksdb::IODebugContext* debug) {
  return Change([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    SetAside(to);
    IOStatus status = target()->RenameFile(from, to, options, debug);
    if (!status.ok()) return status;
    const auto found = names_.find(NameOf(from));
    // Null: it was made past this.
    std::shared_ptr<Contents> contents;
    if (found != names_.end()) contents = found->second;
    if (contents != nullptr) contents->path = to;
    const std::string key = NameOf(to);
    Rename(key, [old_key = NameOf(from), key, contents](Names& names) {
      names.erase(old_key);
      names.erase(key);
      if (contents != nullptr) names[key] = contents;
    });
    return status;
  });
}

IOStatus PowerLossFileSystem::LinkFile(const std::string& /*from*/,
                                       const std::string& /*to*/,
                                       const rocksdb::IOOptions& /*options*/,
                                       rocksdb::IODebugContext* /*debug*/) {
  return IOStatus::NotSupported("files have one name");
}

IOStatus PowerLossFileSystem::Truncate(const std::string& /*name*/,
                                       size_t /*bytes*/,
                                       const rocksdb::IOOptions& /*options*/,
                                       rocksdb::IODebugContext* /*debug*/) {
  return IOStatus::NotSupported("files are cut by nobody");
}

}  // namespace mneme
