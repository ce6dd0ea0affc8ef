// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_COMMIT_GROUP_H_
#define MNEME_ENGINE_STORE_COMMIT_GROUP_H_

#include <cstdint>
#include <set>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/store/kv_store.h"
#include "engine/store/request_log.h"
#include "engine/store/session_index.h"
#include "engine/store/store_types.h"

namespace mneme {

// Writes that become one batch: each sees what those before it change. Not
// thread-safe.
class CommitGroup {
 public:
  // All outlive it. Only one group at a time may change them.
  CommitGroup(const KvStore* kv, SessionIndex* index, RequestLog* requests)
      : kv_(kv), index_(index), requests_(requests) {}

  // Adds all of a write, or none of it with an error: INTERNAL if it does not
  // fit what is stored; NOT_FOUND if the session is not there; DATA_LOSS if
  // what it builds on is damaged.
  absl::Status Add(const StoreWrite& write);

  // All changes. Nothing may be added any more.
  const KvStore::Batch& Finish();
  // The batch is written.
  void Apply();
  // The blobs to which nothing refers any longer once it is: to be deleted
  // then.
  const KvStore::Batch& dropped_blobs() const { return dropped_blobs_; }

 private:
  using Blobs = std::set<uint64_t>;

  absl::optional<SessionEnds> FindSession(const std::string& uid) const;
  absl::StatusOr<Blobs> FindBlobs(const std::string& uid) const;
  absl::Status Remove(const std::string& uid, KvStore::Batch& batch);
  absl::Status ChangeJournal(const std::string& uid, const StoreWrite& write,
                             SessionEnds& ends, KvStore::Batch& batch) const;
  absl::Status CheckBlobs(const Blobs& before, const Blobs& after) const;
  void ReplaceBlobs(const std::string& uid, const Blobs& before,
                    const Blobs& after);
  int64_t BlobUses(uint64_t blob) const;

  const KvStore* const kv_;
  SessionIndex* const index_;
  RequestLog* const requests_;
  KvStore::Batch batch_;
  KvStore::Batch dropped_blobs_;
  SessionIndex::Changes changes_;
  RequestLog::Plan plan_;
  // Of sessions whose record the group puts.
  absl::flat_hash_map<std::string, Blobs> blobs_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_COMMIT_GROUP_H_
