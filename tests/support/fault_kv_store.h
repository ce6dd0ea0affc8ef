// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SUPPORT_FAULT_KV_STORE_H_
#define MNEME_TESTS_SUPPORT_FAULT_KV_STORE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/store/kv_store.h"
#include "engine/store/store_errors.h"

namespace mneme {

// What is to go wrong in a FaultKvStore, and what went on. Outlives it, and a
// copy of it is all that a test needs to keep. Thread-safe.
class KvFaults {
 public:
  enum class Calls { kWrites, kReads, kAll };
  // Says which writes are meant.
  using Picks = std::function<bool(const KvStore::Batch&)>;
  static bool Any(const KvStore::Batch& /*batch*/) { return true; }
  // What is held goes on by itself after so long: a test that goes wrong ends.
  static constexpr absl::Duration kLongestHold = absl::Seconds(30);

  // The n-th of these calls from now fails, and with `lasting` all after it.
  // 1: the next.
  void Fail(Calls calls, int n, bool lasting = false) {
    const absl::MutexLock lock(&mutex_);
    calls_ = calls;
    countdown_ = n;
    lasting_ = lasting;
  }
  // The n-th write from now makes its first `changes` changes and fails, as
  // does every call after it: a crash in the middle of a write that no batch
  // holds together.
  void Tear(int n, size_t changes) {
    const absl::MutexLock lock(&mutex_);
    tear_countdown_ = n;
    torn_changes_ = changes;
  }
  // Writes wait from now on, or from the n-th on, until Release.
  void Stall(int n = 1) {
    const absl::MutexLock lock(&mutex_);
    stalled_ = n == 1;
    stall_countdown_ = n == 1 ? 0 : n;
  }
  // Also what Hold and HoldScans hold.
  void Release() {
    const absl::MutexLock lock(&mutex_);
    stalled_ = false;
    held_writes_ = nullptr;
    held_space_.reset();
    ++write_releases_;
    ++scan_releases_;
    stall_countdown_ = 0;
  }

  // Writes that `picks` picks wait from now on, until Release; then they go on,
  // or fail as they are told to.
  void Hold(Picks picks) {
    const absl::MutexLock lock(&mutex_);
    held_writes_ = std::move(picks);
  }
  // Scans of `space` likewise.
  void HoldScans(KvStore::Space space) {
    const absl::MutexLock lock(&mutex_);
    held_space_ = space;
  }
  // Those that Hold holds, and no more of them.
  void ReleaseWrites() {
    const absl::MutexLock lock(&mutex_);
    held_writes_ = nullptr;
    ++write_releases_;
  }
  // Until Hold and HoldScans hold so many calls; false if that takes too long.
  bool AwaitHeld(int calls = 1) const {
    const absl::MutexLock lock(&mutex_);
    const auto enough = [this, calls]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return held_ >= calls;
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), kLongestHold);
  }
  // The next `times` writes that `picks` picks fail with `status`.
  void Refuse(Picks picks, absl::Status status,
              int times = std::numeric_limits<int>::max()) {
    const absl::MutexLock lock(&mutex_);
    refused_writes_ = std::move(picks);
    refusal_ = std::move(status);
    refusals_left_ = times;
  }
  // The next scan of `space` fails.
  void RefuseScan(KvStore::Space space) {
    const absl::MutexLock lock(&mutex_);
    refused_space_ = space;
  }
  // Writes that Refuse has failed.
  int64_t refused() const {
    const absl::MutexLock lock(&mutex_);
    return seen_refusals_;
  }

  // No call fails any more.
  void Heal() {
    const absl::MutexLock lock(&mutex_);
    countdown_ = 0;
    tear_countdown_ = 0;
    broken_ = false;
    refused_writes_ = nullptr;
    refused_space_.reset();
  }

  int64_t calls() const {
    const absl::MutexLock lock(&mutex_);
    return seen_calls_;
  }
  int64_t writes() const {
    const absl::MutexLock lock(&mutex_);
    return seen_writes_;
  }
  // Writes that a stall holds.
  int64_t waiting() const {
    const absl::MutexLock lock(&mutex_);
    return waiting_;
  }
  void AwaitWaiting() const {
    AwaitWaitingOr([] { return false; });
  }
  // Until a stall holds a write, or `done`, whatever comes first. Whether one
  // is held.
  bool AwaitWaitingOr(const std::function<bool()>& done) const {
    const absl::MutexLock lock(&mutex_);
    const auto any = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return (stalled_ && waiting_ > 0) || done();
    };
    while (!mutex_.AwaitWithTimeout(absl::Condition(&any),
                                    absl::Milliseconds(10))) {
    }
    return stalled_ && waiting_ > 0;
  }

  // -- The store's side ------------------------------------------------------

  absl::Status OnRead() {
    const absl::MutexLock lock(&mutex_);
    ++seen_calls_;
    return Count(calls_ != Calls::kWrites);
  }
  absl::Status OnSync() {
    const absl::MutexLock lock(&mutex_);
    ++seen_calls_;
    return Count(calls_ != Calls::kReads);
  }
  absl::Status OnScan(KvStore::Space space) {
    {
      const absl::MutexLock lock(&mutex_);
      if (held_space_ == space) AwaitRelease(scan_releases_);
      if (refused_space_ == space) {
        refused_space_.reset();
        return Failure();
      }
    }
    return OnRead();
  }
  // How many changes of the write to make; a write that is torn fails after
  // them.
  absl::Status OnWrite(const KvStore::Batch& batch, size_t* changes) {
    const absl::MutexLock lock(&mutex_);
    ++seen_calls_;
    ++seen_writes_;
    ++waiting_;
    if (stall_countdown_ > 0 && --stall_countdown_ == 0) stalled_ = true;
    const auto released = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return !stalled_;
    };
    mutex_.Await(absl::Condition(&released));
    --waiting_;
    if (held_writes_ != nullptr && held_writes_(batch)) {
      AwaitRelease(write_releases_);
    }
    if (refused_writes_ != nullptr && refusals_left_ > 0 &&
        refused_writes_(batch)) {
      --refusals_left_;
      ++seen_refusals_;
      *changes = 0;
      return refusal_;
    }
    if (!broken_ && tear_countdown_ > 0 && --tear_countdown_ == 0) {
      broken_ = true;
      *changes = std::min(*changes, torn_changes_);
      return Failure();
    }
    const absl::Status status = Count(calls_ != Calls::kReads);
    if (!status.ok()) *changes = 0;
    return status;
  }

 private:
  static absl::Status Failure() {
    return StoreUnavailable("a fault that was asked for");
  }
  // Until `releases`, which the mutex guards, is raised.
  void AwaitRelease(const int64_t& releases)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto released = [&releases, before = releases] {
      return releases > before;
    };
    ++held_;
    mutex_.AwaitWithTimeout(absl::Condition(&released), kLongestHold);
    --held_;
  }
  absl::Status Count(bool counts) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (broken_) return Failure();
    if (!counts || countdown_ == 0 || --countdown_ > 0) return absl::OkStatus();
    broken_ = lasting_;
    return Failure();
  }

  mutable absl::Mutex mutex_;
  Calls calls_ ABSL_GUARDED_BY(mutex_) = Calls::kAll;
  int countdown_ ABSL_GUARDED_BY(mutex_) = 0;
  bool lasting_ ABSL_GUARDED_BY(mutex_) = false;
  int tear_countdown_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t torn_changes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  int stall_countdown_ ABSL_GUARDED_BY(mutex_) = 0;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t seen_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t seen_writes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  Picks held_writes_ ABSL_GUARDED_BY(mutex_);
  absl::optional<KvStore::Space> held_space_ ABSL_GUARDED_BY(mutex_);
  int64_t write_releases_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t scan_releases_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t held_ ABSL_GUARDED_BY(mutex_) = 0;
  Picks refused_writes_ ABSL_GUARDED_BY(mutex_);
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
  int refusals_left_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t seen_refusals_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::optional<KvStore::Space> refused_space_ ABSL_GUARDED_BY(mutex_);
};

// A store, shared with whoever opens it next, that fails as it is told to.
class FaultKvStore final : public KvStore {
 public:
  // `durable`: what it says of itself; null: what `inner` says.
  FaultKvStore(std::shared_ptr<KvStore> inner, std::shared_ptr<KvFaults> faults,
               absl::optional<bool> durable = absl::nullopt)
      : inner_(std::move(inner)),
        faults_(std::move(faults)),
        durable_(durable) {}

  absl::Status Write(const Batch& batch, bool sync) override {
    size_t changes = batch.size();
    const absl::Status status = faults_->OnWrite(batch, &changes);
    if (changes == batch.size() && status.ok()) {
      return inner_->Write(batch, sync);
    }
    if (changes > 0) {
      const Batch torn(batch.begin(),
                       batch.begin() + static_cast<ptrdiff_t>(changes));
      const absl::Status written = inner_->Write(torn, sync);
      if (!written.ok()) return written;
    }
    return status;
  }
  absl::StatusOr<absl::optional<std::string>> Get(
      Space space, std::string_view key) const override {
    const absl::Status status = faults_->OnRead();
    if (!status.ok()) return status;
    return inner_->Get(space, key);
  }
  absl::Status Scan(
      Space space, std::string_view begin, std::string_view end,
      absl::FunctionRef<bool(std::string_view key, std::string_view value)>
          read) const override {
    const absl::Status status = faults_->OnScan(space);
    if (!status.ok()) return status;
    return inner_->Scan(space, begin, end, read);
  }
  absl::StatusOr<absl::optional<Entry>> Last(
      Space space, std::string_view begin,
      std::string_view end) const override {
    const absl::Status status = faults_->OnRead();
    if (!status.ok()) return status;
    return inner_->Last(space, begin, end);
  }
  absl::StatusOr<bool> GetBlob(std::string_view key,
                               std::string& value) const override {
    const absl::Status status = faults_->OnRead();
    if (!status.ok()) return status;
    return inner_->GetBlob(key, value);
  }
  absl::Status SyncBlob(std::string_view key) override {
    const absl::Status status = faults_->OnSync();
    return status.ok() ? inner_->SyncBlob(key) : status;
  }
  absl::Status ForEachBlob(
      absl::FunctionRef<void(std::string_view key)> tell) const override {
    const absl::Status status = faults_->OnRead();
    return status.ok() ? inner_->ForEachBlob(tell) : status;
  }
  absl::Status Compact() override {
    const absl::Status status = faults_->OnRead();
    return status.ok() ? inner_->Compact() : status;
  }
  int64_t used_bytes() const override { return inner_->used_bytes(); }
  // Unless it is told otherwise: what it holds outlives whoever opens it.
  bool durable() const override { return durable_.value_or(true); }

 private:
  const std::shared_ptr<KvStore> inner_;
  const std::shared_ptr<KvFaults> faults_;
  const absl::optional<bool> durable_;
};

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_FAULT_KV_STORE_H_
