// SPDX-License-Identifier: Apache-2.0
#include "engine/store/rocksdb/rocksdb_kv_store.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/store/rocksdb/blob_files.h"
#include "engine/store/rocksdb/commit_mark.h"
#include "engine/store/rocksdb/database_options.h"
#include "engine/store/rocksdb/log_files.h"
#include "engine/store/rocksdb/store_directory.h"
#include "engine/store/store_errors.h"
#include "rocksdb/db.h"
#include "rocksdb/iterator.h"
#include "rocksdb/listener.h"
#include "rocksdb/write_batch.h"

namespace mneme {
namespace {

// What a write that drops something may add when room is short.
constexpr size_t kSmallBytes = 16 << 10;

rocksdb::Slice Slice(std::string_view bytes) {
  return {bytes.data(), bytes.size()};
}

std::string_view View(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

rocksdb::Env* EnvOf(const RocksDbOptions& options) {
  return options.env != nullptr ? options.env : rocksdb::Env::Default();
}

constexpr char kManifestPrefix[] = "/MANIFEST-";

// Whether the manifest may have been written to. Also keeps RocksDB from
// recovering by itself, in the middle of our reopening.
class ManifestWatch final : public rocksdb::EventListener {
 public:
  bool TakeChanged() { return changed_.exchange(false); }
  void OnFlushCompleted(rocksdb::DB*, const rocksdb::FlushJobInfo&) override {
    changed_ = true;
  }
  void OnCompactionCompleted(rocksdb::DB*,
                             const rocksdb::CompactionJobInfo&) override {
    changed_ = true;
  }
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status,
                            bool* auto_recovery) override {
    *auto_recovery = false;
  }

 private:
  std::atomic<bool> changed_ = true;
};

}  // namespace

struct RocksDbKvStore::Database {
  explicit Database(const std::string& path) : directory(path) {}
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database() {
    if (db == nullptr) return;
    for (rocksdb::ColumnFamilyHandle* family : families) {
      const rocksdb::Status status = db->DestroyColumnFamilyHandle(family);
      if (!status.ok()) LogWarning(directory, ": ", status.ToString());
    }
    const rocksdb::Status status = db->Close();
    if (!status.ok()) LogWarning(directory, ": ", status.ToString());
    db.reset();
    closed->Notify();
  }

  rocksdb::ColumnFamilyHandle* family(Space space) const {
    MNEME_CHECK(space != Space::kBlobs);  // which are files
    return families[1 + static_cast<size_t>(space)];
  }
  std::unique_ptr<rocksdb::Iterator> Iterate(Space space,
                                             const rocksdb::Slice& begin,
                                             const rocksdb::Slice& end) const {
    rocksdb::ReadOptions read;
    read.fill_cache = false;
    read.iterate_lower_bound = &begin;
    read.iterate_upper_bound = &end;
    return std::unique_ptr<rocksdb::Iterator>(
        db->NewIterator(read, family(space)));
  }

  const std::string directory;
  const std::shared_ptr<absl::Notification> closed =
      std::make_shared<absl::Notification>();
  const std::shared_ptr<ManifestWatch> manifest_watch =
      std::make_shared<ManifestWatch>();
  std::unique_ptr<rocksdb::DB> db;
  std::vector<rocksdb::ColumnFamilyHandle*> families;
};

RocksDbKvStore::RocksDbKvStore(std::string directory,
                               const RocksDbOptions& options,
                               std::unique_ptr<StoreDirectory> files,
                               std::unique_ptr<BlobFiles> blobs)
    : directory_(std::move(directory)),
      options_(options),
      blobs_(std::move(blobs)),
      files_(std::move(files)) {}

RocksDbKvStore::~RocksDbKvStore() {
  const absl::MutexLock lock(&write_mutex_);
  CloseDatabase();
}

absl::StatusOr<std::unique_ptr<RocksDbKvStore>> RocksDbKvStore::Open(
    const std::string& directory, const RocksDbOptions& options) {
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<StoreDirectory> files,
                         StoreDirectory::Lock(directory));
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<BlobFiles> blobs,
                         BlobFiles::Open(directory, EnvOf(options)));
  std::unique_ptr<RocksDbKvStore> store(new RocksDbKvStore(
      directory, options, std::move(files), std::move(blobs)));
  const absl::MutexLock lock(&store->write_mutex_);
  MNEME_RETURN_IF_ERROR(store->OpenDatabase(absl::nullopt));
  return store;
}

absl::Status RocksDbKvStore::OpenDatabase(absl::optional<uint64_t> last) const {
  const absl::optional<Committed> committed = files_->mark().committed();
  if (!files_->is_new()) {
    if (!committed.has_value()) {
      return absl::DataLossError(absl::StrCat(
          directory_, "/", CommitMark::kFileName, " is missing or damaged"));
    }
    MNEME_RETURN_IF_ERROR(CheckManifest(directory_, *committed));
    MNEME_RETURN_IF_ERROR(CheckWriteAheadLogs(directory_, *committed, last));
  }
  auto database = std::make_shared<Database>(directory_);
  rocksdb::DBOptions options = DatabaseOptions(options_.env);
  options.create_if_missing = files_->is_new();
  options.create_missing_column_families = files_->is_new();
  options.listeners = {database->manifest_watch};
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(
      options, directory_, ColumnFamilies(), &database->families, &db);
  database->db.reset(db);
  MNEME_RETURN_IF_ERROR(ToStatus(status, directory_));
  last_sequence_ = db->GetLatestSequenceNumber();
  if (committed.has_value() && last_sequence_ < committed->sequence) {
    return absl::DataLossError(
        absl::StrCat(directory_, ": changes ", last_sequence_ + 1, " to ",
                     committed->sequence, " were committed and are lost"));
  }
  // Of a new store nothing is committed yet.
  if (!files_->is_new()) MNEME_RETURN_IF_ERROR(BeginLog(*database));
  MNEME_RETURN_IF_ERROR(MarkCommitted(*database));
  MNEME_RETURN_IF_ERROR(files_->Finish());
  failed_ = false;
  const absl::MutexLock lock(&mutex_);
  database_ = std::move(database);
  return absl::OkStatus();
}

absl::Status RocksDbKvStore::BeginLog(Database& database) const {
  rocksdb::WriteBatch nothing;
  rocksdb::WriteOptions write;
  write.sync = true;
  rocksdb::Status status = nothing.PutLogData("");
  if (status.ok()) status = database.db->Write(write, &nothing);
  return ToStatus(status, directory_);
}

absl::Status RocksDbKvStore::MarkCommitted(Database& database) const {
  Committed committed = files_->mark().committed().value_or(Committed());
  committed.sequence = last_sequence_;
  if (database.manifest_watch->TakeChanged()) {
    std::vector<std::string> files;
    MNEME_RETURN_IF_ERROR(
        ToStatus(database.db->GetLiveFiles(files, &committed.manifest_bytes,
                                           /*flush_memtable=*/false),
                 directory_));
    for (const std::string& file : files) {
      if (file.rfind(kManifestPrefix, 0) != 0) continue;
      if (!absl::SimpleAtoi(file.substr(sizeof kManifestPrefix - 1),
                            &committed.manifest_number)) {
        return absl::InternalError(absl::StrCat("no manifest's name: ", file));
      }
    }
  }
  return files_->mark().Update(committed);
}

void RocksDbKvStore::CloseDatabase() {
  std::shared_ptr<Database> closing;
  {
    const absl::MutexLock lock(&mutex_);
    closing.swap(database_);
  }
  if (closing == nullptr) return;
  const std::shared_ptr<absl::Notification> closed = closing->closed;
  closing.reset();
  closed->WaitForNotification();  // for those who read
}

absl::StatusOr<std::shared_ptr<RocksDbKvStore::Database>>
RocksDbKvStore::Current() const {
  const absl::MutexLock lock(&mutex_);
  if (database_ == nullptr) {
    return StoreUnavailable(absl::StrCat(directory_, " is not open"));
  }
  return database_;
}

absl::StatusOr<std::shared_ptr<RocksDbKvStore::Database>> RocksDbKvStore::Open()
    const {
  absl::StatusOr<std::shared_ptr<Database>> current = Current();
  // Who opens it may wait for this reader.
  if (current.ok() || !write_mutex_.TryLock()) return current;
  current = Current();
  if (!current.ok() && failed_) {
    const absl::Status opened = OpenDatabase(last_sequence_);
    current = opened.ok() ? Current() : opened;
  }
  write_mutex_.Unlock();
  return current;
}

absl::Status RocksDbKvStore::CheckRoom(const Batch& batch) const {
  if (options_.min_free_bytes == 0) return absl::OkStatus();
  size_t added = 0;
  bool drops = false;
  for (const Change& change : batch) {
    if (change.kind == Change::Kind::kPut) {
      added += change.key.size() + change.value.size();
    } else {
      drops = true;
    }
  }
  if (added == 0 || (drops && added <= kSmallBytes)) return absl::OkStatus();
  uint64_t free_bytes = 0;
  MNEME_RETURN_IF_ERROR(ToStatus(
      EnvOf(options_)->GetFreeSpace(directory_, &free_bytes), directory_));
  if (free_bytes >= static_cast<uint64_t>(options_.min_free_bytes)) {
    return absl::OkStatus();
  }
  return StoreUnavailable(absl::StrCat(directory_, ": its file system has ",
                                       free_bytes, " bytes free, and ",
                                       options_.min_free_bytes, " are kept"));
}

absl::Status RocksDbKvStore::WriteBlobs(const Batch& batch) {
  for (const Change& change : batch) {
    MNEME_CHECK(change.space == Space::kBlobs);
    if (change.kind == Change::Kind::kPut) {
      MNEME_RETURN_IF_ERROR(blobs_->Put(change.key, change.value));
    } else {
      blobs_->Drop(change.key);
    }
  }
  return absl::OkStatus();
}

absl::Status RocksDbKvStore::Write(const Batch& batch, bool sync) {
  MNEME_RETURN_IF_ERROR(CheckRoom(batch));
  const auto of_blob = [](const Change& change) {
    return change.space == Space::kBlobs;
  };
  if (std::any_of(batch.begin(), batch.end(), of_blob)) {
    return WriteBlobs(batch);
  }
  const absl::MutexLock lock(&write_mutex_);
  if (failed_) {
    CloseDatabase();
    MNEME_RETURN_IF_ERROR(OpenDatabase(last_sequence_));
  }
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Database> database, Current());
  rocksdb::WriteBatch changes;
  rocksdb::Status status;
  for (const Change& change : batch) {
    rocksdb::ColumnFamilyHandle* family = database->family(change.space);
    switch (change.kind) {
      case Change::Kind::kPut:
        status = changes.Put(family, change.key, change.value);
        break;
      case Change::Kind::kDelete:
        status = changes.Delete(family, change.key);
        break;
      case Change::Kind::kDeleteRange:
        // RocksDB refuses to read past a range that ends before it begins.
        if (change.key < change.value) {
          status = changes.DeleteRange(family, change.key, change.value);
        }
        break;
    }
    MNEME_RETURN_IF_ERROR(ToStatus(status, directory_));
  }
  rocksdb::WriteOptions write;
  write.sync = sync;
  status = database->db->Write(write, &changes);
  failed_ = !status.ok();
  MNEME_RETURN_IF_ERROR(ToStatus(status, directory_));
  last_sequence_ = database->db->GetLatestSequenceNumber();
  if (!sync) return absl::OkStatus();
  // The write is durable all the same.
  const absl::Status marked = MarkCommitted(*database);
  if (!marked.ok()) LogWarning(std::string(marked.ToString()));
  return absl::OkStatus();
}

absl::StatusOr<absl::optional<std::string>> RocksDbKvStore::Get(
    Space space, std::string_view key) const {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Database> database, Open());
  rocksdb::ReadOptions read;
  read.fill_cache = space == Space::kMeta;
  std::string value;
  const rocksdb::Status status =
      database->db->Get(read, database->family(space), Slice(key), &value);
  if (status.IsNotFound()) return absl::optional<std::string>();
  MNEME_RETURN_IF_ERROR(ToStatus(status, directory_));
  return absl::optional<std::string>(std::move(value));
}

absl::Status RocksDbKvStore::Scan(
    Space space, std::string_view begin, std::string_view end,
    absl::FunctionRef<bool(std::string_view key, std::string_view value)> read)
    const {
  if (begin >= end) return absl::OkStatus();
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Database> database, Open());
  const rocksdb::Slice lower = Slice(begin);
  const rocksdb::Slice upper = Slice(end);
  const std::unique_ptr<rocksdb::Iterator> entry =
      database->Iterate(space, lower, upper);
  for (entry->SeekToFirst(); entry->Valid(); entry->Next()) {
    if (!read(View(entry->key()), View(entry->value()))) break;
  }
  return ToStatus(entry->status(), directory_);
}

absl::StatusOr<absl::optional<KvStore::Entry>> RocksDbKvStore::Last(
    Space space, std::string_view begin, std::string_view end) const {
  if (begin >= end) return absl::optional<Entry>();
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Database> database, Open());
  const rocksdb::Slice lower = Slice(begin);
  const rocksdb::Slice upper = Slice(end);
  const std::unique_ptr<rocksdb::Iterator> entry =
      database->Iterate(space, lower, upper);
  entry->SeekToLast();
  if (!entry->Valid()) {
    MNEME_RETURN_IF_ERROR(ToStatus(entry->status(), directory_));
    return absl::optional<Entry>();
  }
  return absl::optional<Entry>(
      {entry->key().ToString(), entry->value().ToString()});
}

absl::StatusOr<bool> RocksDbKvStore::GetBlob(std::string_view key,
                                             std::string& value) const {
  return blobs_->Get(key, value);
}

absl::Status RocksDbKvStore::SyncBlob(std::string_view key) {
  return blobs_->Sync(key);
}

absl::Status RocksDbKvStore::ForEachBlob(
    absl::FunctionRef<void(std::string_view key)> tell) const {
  return blobs_->ForEach(tell);
}

absl::Status RocksDbKvStore::Compact() {
  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<Database> database, Open());
  {
    const absl::MutexLock lock(&write_mutex_);
    MNEME_RETURN_IF_ERROR(ToStatus(
        database->db->Flush(rocksdb::FlushOptions(), database->families),
        directory_));
    if (!failed_) MNEME_RETURN_IF_ERROR(BeginLog(*database));
  }
  rocksdb::CompactRangeOptions compact;
  compact.bottommost_level_compaction =
      rocksdb::BottommostLevelCompaction::kForce;
  for (rocksdb::ColumnFamilyHandle* family : database->families) {
    MNEME_RETURN_IF_ERROR(
        ToStatus(database->db->CompactRange(compact, family, nullptr, nullptr),
                 directory_));
  }
  return absl::OkStatus();
}

int64_t RocksDbKvStore::used_bytes() const {
  int64_t bytes = blobs_->used_bytes();
  std::error_code error;
  for (const auto& file :
       std::filesystem::directory_iterator(directory_, error)) {
    std::error_code gone;  // files come and go
    if (!file.is_regular_file(gone)) continue;
    const auto size = file.file_size(gone);
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

}  // namespace mneme
