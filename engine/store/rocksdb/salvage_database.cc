// SPDX-License-Identifier: Apache-2.0
#include "engine/store/rocksdb/salvage_database.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/store/rocksdb/database_options.h"
#include "engine/store/rocksdb/log_files.h"
#include "engine/store/rocksdb/store_directory.h"
#include "rocksdb/db.h"
#include "rocksdb/iterator.h"

namespace mneme {
namespace {

// Opens the database, reads all that a store reads to open, and closes it.
// `sequence` is set to that of its last change.
absl::Status TryDatabase(const std::string& directory,
                         const RocksDbOptions& options, bool rebuilt,
                         uint64_t& sequence) {
  rocksdb::DBOptions db_options = DatabaseOptions(options.env);
  // A space of which no table is left is empty.
  db_options.create_missing_column_families = rebuilt;
  std::vector<rocksdb::ColumnFamilyHandle*> families;
  rocksdb::DB* raw = nullptr;
  rocksdb::Status status = rocksdb::DB::Open(db_options, directory,
                                             ColumnFamilies(), &families, &raw);
  MNEME_RETURN_IF_ERROR(ToStatus(status, directory));
  const std::unique_ptr<rocksdb::DB> db(raw);
  sequence = db->GetLatestSequenceNumber();
  {
    const std::unique_ptr<rocksdb::Iterator> entry(db->NewIterator(
        rocksdb::ReadOptions(),
        families[1 + static_cast<size_t>(KvStore::Space::kMeta)]));
    entry->SeekToFirst();
    while (entry->Valid()) entry->Next();
    status = entry->status();
  }
  for (rocksdb::ColumnFamilyHandle* family : families) {
    const rocksdb::Status closed = db->DestroyColumnFamilyHandle(family);
    if (status.ok()) status = closed;
  }
  const rocksdb::Status closed = db->Close();
  if (status.ok()) status = closed;
  return ToStatus(status, directory);
}

}  // namespace

absl::Status SalvageDatabase(const std::string& directory,
                             const RocksDbOptions& options,
                             DatabaseSalvage& salvage) {
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<StoreDirectory> files,
                         StoreDirectory::LockDamaged(directory));
  const auto note = [&](const std::string& action, const absl::Status& why) {
    salvage.actions.push_back(
        std::string(absl::StrCat(action, ": ", why.message())));
  };
  const absl::optional<Committed> committed = files->mark().committed();
  if (!committed.has_value()) salvage.complete = false;
  const Committed known = committed.value_or(Committed());
  const absl::Status logs =
      CheckWriteAheadLogs(directory, known, absl::nullopt);
  if (absl::IsDataLoss(logs)) {
    salvage.complete = false;
    note("cut the write-ahead log at its damage", logs);
    MNEME_RETURN_IF_ERROR(
        CheckWriteAheadLogs(directory, Committed(), absl::nullopt));
  } else {
    MNEME_RETURN_IF_ERROR(logs);
  }
  uint64_t sequence = 0;
  absl::Status opened = CheckManifest(directory, known);
  if (opened.ok()) {
    opened = TryDatabase(directory, options, /*rebuilt=*/false, sequence);
  }
  if (!opened.ok()) {
    note("rebuilt the database from its tables", opened);
    // A table that cannot be read is set aside as a whole.
    salvage.complete = false;
    MNEME_RETURN_IF_ERROR(
        ToStatus(rocksdb::RepairDB(directory, DatabaseOptions(options.env),
                                   ColumnFamilies()),
                 directory));
    MNEME_RETURN_IF_ERROR(
        TryDatabase(directory, options, /*rebuilt=*/true, sequence));
  }
  if (sequence < known.sequence) salvage.complete = false;
  MNEME_RETURN_IF_ERROR(files->mark().Update({.sequence = sequence}));
  return files->Finish();
}

}  // namespace mneme
