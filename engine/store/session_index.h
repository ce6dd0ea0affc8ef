// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_SESSION_INDEX_H_
#define MNEME_ENGINE_STORE_SESSION_INDEX_H_

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "engine/store/kv_store.h"
#include "engine/store/store_types.h"

namespace mneme {

// Where a session's journal ends, and where its record says it is replayed
// from. They differ while the session is active: its journal goes on beyond
// its record.
struct SessionEnds {
  uint64_t replay_seq = 0;
  uint64_t next_seq = 0;
  bool damaged = false;  // its record is: replay_seq is not known

  bool active() const { return replay_seq != next_seq; }
};

// The blobs that a record refers to.
std::set<uint64_t> BlobsOf(const SessionRecord& record);

// What a KvSessionStore knows of its sessions without reading them: some tens
// of bytes for each. Thread-safe.
class SessionIndex {
 public:
  // Reads all records of `kv`, and where the journals of active sessions end.
  absl::Status Load(const KvStore& kv);

  absl::optional<SessionEnds> Find(const std::string& uid) const;
  int64_t sessions() const;
  // Whether a record was found damaged by Load.
  bool any_damaged() const;

  // How many sessions refer to a blob.
  int64_t BlobUses(uint64_t blob) const;
  // Behind all that were ever referred to, as far as the store says.
  uint64_t next_blob() const;
  // Written, and no record refers to it yet.
  bool IsUnpublished(uint64_t blob) const;
  void AddUnpublished(uint64_t blob);
  // False if it was none.
  bool DropUnpublished(uint64_t blob);

  // What a batch changes.
  struct Changes {
    // Null: the session is gone.
    absl::flat_hash_map<std::string, absl::optional<SessionEnds>> sessions;
    absl::flat_hash_map<uint64_t, int64_t> blob_uses;  // more, or fewer
    uint64_t next_blob = 0;  // behind those that are referred to
  };
  void Apply(const Changes& changes);

 private:
  absl::Status LoadNextBlob(const KvStore& kv);
  void LoadRecord(std::string_view key, std::string_view value);
  absl::Status LoadJournalEnds(const KvStore& kv);

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::string, SessionEnds> sessions_
      ABSL_GUARDED_BY(mutex_);  // by the 16 bytes of their uids
  absl::flat_hash_map<uint64_t, int64_t> blob_uses_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<uint64_t> unpublished_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_blob_ ABSL_GUARDED_BY(mutex_) = 1;
  bool any_damaged_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_SESSION_INDEX_H_
