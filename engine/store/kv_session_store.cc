// SPDX-License-Identifier: Apache-2.0
//
// Writes and opening; what only reads is in kv_session_reads.cc.
#include "engine/store/kv_session_store.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/store/record_coding.h"
#include "engine/store/store_errors.h"
#include "engine/store/store_keys.h"

namespace mneme {
namespace {

constexpr KvStore::Space kMeta = KvStore::Space::kMeta;
constexpr KvStore::Space kBlobs = KvStore::Space::kBlobs;

// Most that is written with one sync, but for a single write that is larger.
constexpr int64_t kGroupBytes = 4 << 20;
// How much may be added before what is used is asked for again.
constexpr int64_t kQuotaStep = 1 << 20;
// What a write takes beside its contents.
constexpr int64_t kWriteBytes = 256;

int64_t BytesOf(const StoreWrite& write) {
  int64_t bytes = kWriteBytes;
  for (const JournalEntry& entry : write.append) {
    bytes += kWriteBytes + static_cast<int64_t>(entry.payload.size());
  }
  if (write.record.has_value()) {
    const auto snapshots = static_cast<int64_t>(write.record->ring.size() +
                                                write.record->named.size());
    bytes += (2 + 2 * snapshots) * kWriteBytes;
  }
  if (write.request.has_value()) {
    bytes += static_cast<int64_t>(write.request->reply.size());
  }
  return bytes;
}

bool Drops(const StoreWrite& write) {
  return write.remove || write.drop_journal_from.has_value() ||
         write.drop_journal_before.has_value();
}

}  // namespace

KvSessionStore::KvSessionStore(std::unique_ptr<KvStore> kv,
                               const SessionStoreOptions& options)
    : kv_(std::move(kv)),
      options_(options),
      requests_({.keep = kKeepRequests, .max_bytes = kMaxRequestBytes},
                options.clock) {}

absl::StatusOr<std::unique_ptr<KvSessionStore>> KvSessionStore::Open(
    std::unique_ptr<KvStore> kv, const SessionStoreOptions& options) {
  std::unique_ptr<KvSessionStore> store(
      new KvSessionStore(std::move(kv), options));
  MNEME_RETURN_IF_ERROR(store->Load());
  store->committer_ = std::thread([raw = store.get()] { raw->RunCommits(); });
  return store;
}

absl::Status KvSessionStore::Load() {
  MNEME_ASSIGN_OR_RETURN(const absl::optional<std::string> format,
                         GetSealed(*kv_, kMeta, kFormatKey));
  if (format.has_value()) {
    MNEME_ASSIGN_OR_RETURN(const uint64_t version, DecodeNumber(*format));
    if (version != kFormatVersion) {
      return absl::FailedPreconditionError(
          absl::StrCat("the session store has format version ", version,
                       ", want ", kFormatVersion));
    }
  } else {
    bool empty = true;
    MNEME_RETURN_IF_ERROR(
        kv_->Scan(kMeta, "", "\xff", [&](std::string_view, std::string_view) {
          empty = false;
          return false;
        }));
    if (!empty) {
      return absl::DataLossError(
          "the session store does not say its format version");
    }
    KvStore::Batch batch;
    PutSealed(kMeta, kFormatKey, EncodeNumber(kFormatVersion), batch);
    MNEME_RETURN_IF_ERROR(kv_->Write(batch, /*sync=*/true));
  }
  const absl::StatusOr<absl::optional<std::string>> forgets =
      GetSealed(*kv_, kMeta, kForgetKey);
  // One that is damaged says as much as a whole one.
  must_forget_ = !forgets.ok() || forgets->has_value();
  MNEME_RETURN_IF_ERROR(index_.Load(*kv_));
  MNEME_RETURN_IF_ERROR(requests_.Load(*kv_));
  return DropOrphans();
}

// Also sets the number of the next blob.
absl::Status KvSessionStore::DropOrphans() {
  uint64_t next = index_.next_blob();
  KvStore::Batch orphans;
  MNEME_RETURN_IF_ERROR(kv_->ForEachBlob([&](std::string_view key) {
    const absl::StatusOr<uint64_t> blob = NumberAtEnd(key);
    if (!blob.ok()) return;  // none of a session store's
    next = std::max(next, *blob + 1);
    if (index_.BlobUses(*blob) == 0) {
      DeleteKey(kBlobs, std::string(key), orphans);
    }
  }));
  next_blob_ = next;
  // A damaged record may refer to any of them.
  if (orphans.empty() || index_.any_damaged()) return absl::OkStatus();
  return kv_->Write(orphans, /*sync=*/false);
}

KvSessionStore::~KvSessionStore() {
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (!committer_.joinable()) return;
  committer_.join();
  KvStore::Batch batch;
  requests_.FillAge(batch);
  const absl::Status status = kv_->Write(batch, /*sync=*/true);
  if (!status.ok()) {
    LogWarning("closing the session store: ", std::string(status.ToString()));
  }
}

void KvSessionStore::Write(StoreWrite write, Done done) {
  const int64_t bytes = BytesOf(write);
  const absl::MutexLock lock(&mutex_);
  waiting_bytes_ += bytes;
  queue_.push_back({.write = std::move(write),
                    .done = std::move(done),
                    .bytes = bytes,
                    .result = {}});
}

void KvSessionStore::AwaitWrites() {
  const absl::MutexLock lock(&mutex_);
  const auto none = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return waiting_bytes_ == 0;
  };
  mutex_.Await(absl::Condition(&none));
}

// Writes that only remove are not mixed with others, which may be refused for
// lack of room.
std::vector<KvSessionStore::Queued> KvSessionStore::TakeGroup() {
  std::vector<Queued> group;
  int64_t bytes = 0;
  while (!queue_.empty()) {
    Queued& next = queue_.front();
    if (!group.empty() && (bytes + next.bytes > kGroupBytes ||
                           next.write.remove != group[0].write.remove)) {
      break;
    }
    bytes += next.bytes;
    group.push_back(std::move(next));
    queue_.pop_front();
  }
  return group;
}

void KvSessionStore::RunCommits() {
  while (true) {
    std::vector<Queued> group;
    {
      const absl::MutexLock lock(&mutex_);
      const auto wanted = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return stopping_ || !queue_.empty();
      };
      mutex_.Await(absl::Condition(&wanted));
      if (queue_.empty()) return;
      group = TakeGroup();
    }
    const KvStore::Batch dropped = Commit(group);
    // Who removes a session is told when nothing is left of it; nobody else
    // waits for what became of no use.
    const bool removes = group.front().write.remove;
    if (removes) DropBlobs(dropped);
    ForgetFailures();
    int64_t bytes = 0;
    for (Queued& queued : group) {
      bytes += queued.bytes;
      if (queued.done != nullptr) queued.done(queued.result);
    }
    if (!removes) DropBlobs(dropped);
    const absl::MutexLock lock(&mutex_);
    waiting_bytes_ -= bytes;
  }
}

KvStore::Batch KvSessionStore::Commit(std::vector<Queued>& group) {
  CommitGroup changes(kv_.get(), &index_, &requests_);
  bool any = false;
  bool drops = false;
  bool forgets = false;
  for (Queued& queued : group) {
    queued.result = Admit(queued.write);
    if (queued.result.ok()) queued.result = changes.Add(queued.write);
    if (!queued.result.ok()) {
      failed_[queued.write.uid] = queued.result;
      continue;
    }
    any = true;
    drops = drops || Drops(queued.write) || queued.write.record.has_value();
    forgets = forgets || queued.write.remove || queued.write.forgets;
  }
  if (!any) return {};
  KvStore::Batch batch = changes.Finish();
  const bool marks = forgets && !must_forget_.exchange(true);
  if (marks) PutSealed(kMeta, kForgetKey, "", batch);
  const absl::Status written = kv_->Write(batch, /*sync=*/true);
  if (marks && !written.ok()) must_forget_ = false;
  writable_ = written.ok();
  if (written.ok()) {
    changes.Apply();
    if (drops) dropped_ = true;
    return changes.dropped_blobs();
  }
  for (Queued& queued : group) {
    if (!queued.result.ok()) continue;
    queued.result = written;
    failed_[queued.write.uid] = written;
  }
  return {};
}

void KvSessionStore::DropBlobs(const KvStore::Batch& blobs) {
  if (blobs.empty()) return;
  const absl::Status status = kv_->Write(blobs, /*sync=*/false);
  if (!status.ok()) {
    LogWarning(blobs.size(), " blobs stay until the store is opened again: ",
               std::string(status.ToString()));
  }
}

absl::Status KvSessionStore::Admit(const StoreWrite& write) {
  const auto failed = failed_.find(write.uid);
  if (failed != failed_.end()) {
    if (!write.remove && !write.drop_journal_from.has_value()) {
      return failed->second;
    }
    failed_.erase(failed);
  }
  const bool adds =
      !write.append.empty() || (write.record.has_value() && !Drops(write));
  return adds ? CheckQuota(BytesOf(write)) : absl::OkStatus();
}

// What is used is asked for now and then; in between it is what was added.
absl::Status KvSessionStore::CheckQuota(int64_t bytes) {
  const int64_t limit = options_.max_bytes;
  if (limit == 0) return absl::OkStatus();
  const absl::MutexLock lock(&quota_mutex_);
  added_bytes_ += bytes;
  if (added_bytes_ < kQuotaStep && used_bytes_ + added_bytes_ <= limit) {
    return absl::OkStatus();
  }
  used_bytes_ = kv_->used_bytes();
  added_bytes_ = bytes;
  if (used_bytes_ + bytes > limit && dropped_.exchange(false)) {
    MNEME_RETURN_IF_ERROR(kv_->Compact());
    used_bytes_ = kv_->used_bytes();
  }
  if (used_bytes_ + bytes <= limit) return absl::OkStatus();
  added_bytes_ = 0;
  return StoreFull(absl::StrCat("the store holds ", used_bytes_,
                                " bytes and may hold ", limit));
}

// Of sessions that are not there, once none of their writes waits: what comes
// later has seen the error.
void KvSessionStore::ForgetFailures() {
  if (failed_.empty()) return;
  absl::flat_hash_set<std::string> waiting;
  {
    const absl::MutexLock lock(&mutex_);
    for (const Queued& queued : queue_) waiting.insert(queued.write.uid);
  }
  absl::erase_if(failed_, [&](const auto& failed) {
    const absl::StatusOr<std::string> uid = UidBytes(failed.first);
    const bool stored = uid.ok() && index_.Find(*uid).has_value();
    return !stored && !waiting.contains(failed.first);
  });
}

absl::StatusOr<uint64_t> KvSessionStore::WriteBlob(std::string& contents) {
  MNEME_RETURN_IF_ERROR(CheckQuota(static_cast<int64_t>(contents.size())));
  const uint64_t blob = next_blob_++;
  index_.AddUnpublished(blob);
  KvStore::Batch batch;
  PutSealed(kBlobs, BlobKey(blob), std::move(contents), batch);
  const absl::Status written = kv_->Write(batch, /*sync=*/false);
  contents = std::move(batch.front().value);
  writable_ = written.ok();
  if (written.ok()) return blob;
  DropBlob(blob);
  return written;
}

absl::Status KvSessionStore::SyncBlob(uint64_t blob) {
  const absl::Status synced = kv_->SyncBlob(BlobKey(blob));
  writable_ = synced.ok();
  if (!synced.ok()) DropBlob(blob);
  return synced;
}

void KvSessionStore::DropBlob(uint64_t blob) {
  if (!index_.DropUnpublished(blob)) return;
  KvStore::Batch batch;
  DeleteKey(kBlobs, BlobKey(blob), batch);
  DropBlobs(batch);
}

absl::Status KvSessionStore::Compact() {
  dropped_ = false;
  if (!must_forget_.exchange(false)) return kv_->Compact();
  // What is deleted meanwhile sets the mark again, behind this.
  KvStore::Batch unmark;
  DeleteKey(kMeta, kForgetKey, unmark);
  absl::Status status = kv_->Write(unmark, /*sync=*/false);
  if (status.ok()) status = kv_->Compact();
  if (status.ok()) return status;
  KvStore::Batch mark;
  PutSealed(kMeta, kForgetKey, "", mark);
  status.Update(kv_->Write(mark, /*sync=*/false));
  must_forget_ = true;
  return status;
}

StoreStats KvSessionStore::stats() const {
  StoreStats stats;
  stats.sessions = index_.sessions();
  stats.used_bytes = kv_->used_bytes();
  stats.limit_bytes = options_.max_bytes;
  stats.writable = writable_;
  stats.must_compact = must_forget_;
  const absl::MutexLock lock(&mutex_);
  stats.waiting_bytes = waiting_bytes_;
  return stats;
}

}  // namespace mneme
