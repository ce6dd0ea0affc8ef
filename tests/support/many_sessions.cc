// SPDX-License-Identifier: Apache-2.0
#include "tests/support/many_sessions.h"

#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/store/journal_record.h"
#include "engine/store/open_store.h"

namespace mneme {
namespace {

constexpr int64_t kTokens = 1000;  // of a snapshot more than of the one before

absl::StatusOr<StoredSnapshot> WriteSnapshot(SessionStore& store,
                                             const SessionRecord& record,
                                             int64_t number) {
  std::string contents(200, 's');
  MNEME_ASSIGN_OR_RETURN(const uint64_t blob, store.WriteBlob(contents));
  MNEME_RETURN_IF_ERROR(store.SyncBlob(blob));
  return StoredSnapshot{.blob = blob,
                        .next_seq = 0,
                        .offset = number * kTokens,
                        .position = number * kTokens,
                        .pending_tokens = number * kTokens % 64,
                        .state_digest = std::string(64, 'a'),
                        .history_digest = std::string(64, 'b'),
                        .model_fingerprint = record.model_fingerprint,
                        .stored_bytes = static_cast<int64_t>(contents.size()),
                        .create_time = record.create_time};
}

}  // namespace

absl::Status WriteManySessions(const std::string& directory, int64_t count,
                               const std::string& model,
                               const std::string& fingerprint) {
  absl::Mutex mutex;
  int64_t waiting = 0;
  absl::Status failed;
  // Before what its writes use goes.
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<SessionStore> store,
                         OpenRocksDbStore(directory, {}));
  const auto done = [&](const absl::Status& status) {
    absl::MutexLock lock(&mutex);
    --waiting;
    failed.Update(status);
  };
  const absl::Time now = absl::Now();
  for (int64_t i = 0; i < count; ++i) {
    SessionRecord record{.id = absl::StrFormat("session-%07d", i),
                         .uid = absl::StrFormat("%032x", i + 1),
                         .model = model,
                         .model_fingerprint = fingerprint,
                         .labels = {{"user", absl::StrFormat("%d", i)}},
                         .create_time = now,
                         .update_time = now};
    for (const int64_t number : {1, 2}) {
      MNEME_ASSIGN_OR_RETURN(StoredSnapshot snapshot,
                             WriteSnapshot(*store, record, number));
      record.ring.push_back(std::move(snapshot));
    }
    StoreWrite write{.uid = record.uid};
    if (i % 10 == 0) {
      write.append.push_back(
          {.seq = 0,
           .payload = EncodeJournalRecord(
               {.time = now,
                .offset = 2 * kTokens,
                .end_offset = 2 * kTokens + 100,
                .body = InputRecord{.bytes = std::string(100, 'x')}})});
    }
    write.create = true;
    write.record = std::move(record);
    {
      absl::MutexLock lock(&mutex);
      ++waiting;
    }
    store->Write(std::move(write), done);
  }
  absl::MutexLock lock(&mutex);
  const auto all_done = [&]() { return waiting == 0; };
  mutex.Await(absl::Condition(&all_done));
  return failed;
}

}  // namespace mneme
