// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_KV_SESSION_STORE_H_
#define MNEME_ENGINE_STORE_KV_SESSION_STORE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/clock.h"
#include "engine/store/commit_group.h"
#include "engine/store/kv_store.h"
#include "engine/store/request_log.h"
#include "engine/store/session_index.h"
#include "engine/store/session_store.h"

namespace mneme {

struct SessionStoreOptions {
  int64_t max_bytes = 0;  // what the store may hold; 0: no limit
  const Clock* clock = Clock::Real();
};

// Sessions in a KvStore: see FORMAT.md. One thread commits what is queued.
class KvSessionStore final : public SessionStore {
 public:
  static constexpr uint64_t kFormatVersion = 2;

  // Drops blobs that no record refers to, if all records can be read.
  // FAILED_PRECONDITION if `kv` is of another format version.
  static absl::StatusOr<std::unique_ptr<KvSessionStore>> Open(
      std::unique_ptr<KvStore> kv, const SessionStoreOptions& options);

  ~KvSessionStore() override;

  bool durable() const override { return kv_->durable(); }
  void Write(StoreWrite write, Done done) override;
  void AwaitWrites() override;
  absl::StatusOr<uint64_t> WriteBlob(std::string& contents) override;
  absl::Status SyncBlob(uint64_t blob) override;
  void DropBlob(uint64_t blob) override;
  absl::Status ReadBlob(uint64_t blob, std::string& contents) const override;
  absl::Status ReadJournal(
      const std::string& uid, uint64_t seq,
      absl::FunctionRef<bool(uint64_t seq, std::string_view payload)> read)
      const override;
  absl::Status ReadSessions(
      absl::FunctionRef<void(FoundSession session)> read,
      absl::FunctionRef<void(const std::string& uid, const absl::Status& error)>
          damaged) const override;
  absl::Status VerifySession(const std::string& uid) const override;
  absl::StatusOr<std::vector<RememberedRequest>> ReadRequests() const override;
  absl::Status Compact() override;
  StoreStats stats() const override;

 private:
  struct Queued {
    StoreWrite write;
    Done done;
    int64_t bytes = 0;
    absl::Status result;
  };

  KvSessionStore(std::unique_ptr<KvStore> kv,
                 const SessionStoreOptions& options);

  absl::Status Load();
  absl::Status DropOrphans();
  absl::StatusOr<FoundSession> ReadSession(const std::string& uid,
                                           std::string_view value) const;

  void RunCommits();
  std::vector<Queued> TakeGroup() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns what is to be deleted now.
  KvStore::Batch Commit(std::vector<Queued>& group);
  void DropBlobs(const KvStore::Batch& blobs);
  absl::Status Admit(const StoreWrite& write);
  // RESOURCE_EXHAUSTED if `bytes` more are too much.
  absl::Status CheckQuota(int64_t bytes);
  void ForgetFailures();

  const std::unique_ptr<KvStore> kv_;
  const SessionStoreOptions options_;
  SessionIndex index_;

  // The committing thread's own.
  RequestLog requests_;
  absl::flat_hash_map<std::string, absl::Status> failed_;  // by uid

  std::atomic<uint64_t> next_blob_ = 1;
  std::atomic<bool> writable_ = true;
  std::atomic<bool> dropped_ = false;  // something, since it was compacted
  // Bytes that are to be gone may be there, and the store says so.
  std::atomic<bool> must_forget_ = false;

  absl::Mutex quota_mutex_;
  int64_t used_bytes_ ABSL_GUARDED_BY(quota_mutex_) = 0;
  int64_t added_bytes_ ABSL_GUARDED_BY(quota_mutex_) = INT64_MAX / 2;

  mutable absl::Mutex mutex_;
  std::deque<Queued> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t waiting_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread committer_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_KV_SESSION_STORE_H_
