// SPDX-License-Identifier: Apache-2.0
#include "engine/store/salvage_store.h"

#include <memory>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/wait_for.h"
#include "engine/store/kv_session_store.h"
#include "engine/store/record_coding.h"
#include "engine/store/rocksdb/salvage_database.h"
#include "engine/store/store_keys.h"

namespace mneme {
namespace {

constexpr KvStore::Space kMeta = KvStore::Space::kMeta;

// Drops what is damaged and belongs to no session, so that the store opens.
absl::Status DropDamaged(KvStore& kv, SalvageReport& report) {
  KvStore::Batch batch;
  const absl::Status format = GetSealed(kv, kMeta, kFormatKey).status();
  MNEME_ASSIGN_OR_RETURN(const absl::optional<std::string> stored,
                         kv.Get(kMeta, kFormatKey));
  if (absl::IsDataLoss(format) || !stored.has_value()) {
    PutSealed(kMeta, kFormatKey, EncodeNumber(KvSessionStore::kFormatVersion),
              batch);
    report.actions.push_back("wrote the format version again");
  }
  MNEME_RETURN_IF_ERROR(
      kv.Scan(kMeta, kRequestPrefix, BehindPrefix(kRequestPrefix),
              [&](std::string_view key, std::string_view value) {
                const absl::StatusOr<std::string_view> payload =
                    Unseal(kMeta, key, value);
                if (!payload.ok() || !DecodeAgedRequest(*payload).ok()) {
                  DeleteKey(kMeta, std::string(key), batch);
                  report.actions.push_back("forgot a damaged request");
                }
                return true;
              }));
  return batch.empty() ? absl::OkStatus() : kv.Write(batch, /*sync=*/true);
}

absl::Status PutRecord(SessionStore& store, SessionRecord record) {
  StoreWrite write;
  write.uid = record.uid;
  write.record = std::move(record);
  return WaitFor<absl::Status>([&](SessionStore::Done done) {
    store.Write(std::move(write), std::move(done));
  });
}

// Empty if the session is proved whole.
absl::StatusOr<std::string> Doubt(const SessionStore& store,
                                  const SessionRecord& record, bool complete) {
  const absl::Status status = store.VerifySession(record.uid);
  if (absl::IsDataLoss(status)) return std::string(status.message());
  MNEME_RETURN_IF_ERROR(status);
  if (complete) return std::string();
  return std::string(
      "the store lost changes that were acknowledged; this session may have "
      "been among those they were of");
}

}  // namespace

absl::Status SalvageStore(const std::string& directory,
                          const RocksDbOptions& options,
                          SalvageReport& report) {
  DatabaseSalvage database;
  const absl::Status salvaged = SalvageDatabase(directory, options, database);
  report.complete = database.complete;
  report.actions = std::move(database.actions);
  MNEME_RETURN_IF_ERROR(salvaged);
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<KvStore> kv,
                         RocksDbKvStore::Open(directory, options));
  MNEME_RETURN_IF_ERROR(DropDamaged(*kv, report));
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<SessionStore> store,
                         KvSessionStore::Open(std::move(kv), {}));
  std::vector<SessionRecord> records;
  MNEME_RETURN_IF_ERROR(store->ReadSessions(
      [&](FoundSession session) {
        records.push_back(std::move(session.record));
      },
      [&](const std::string& uid, const absl::Status& error) {
        report.unreadable[uid] = std::string(error.message());
      }));
  for (SessionRecord& record : records) {
    MNEME_ASSIGN_OR_RETURN(std::string doubt,
                           Doubt(*store, record, report.complete));
    if (record.quarantine.empty()) record.quarantine = std::move(doubt);
    if (record.quarantine.empty()) {
      ++report.sessions;
      continue;
    }
    report.quarantined[record.id] = record.quarantine;
    MNEME_RETURN_IF_ERROR(PutRecord(*store, std::move(record)));
  }
  return absl::OkStatus();
}

}  // namespace mneme
