// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SUPPORT_FAULT_KV_STORE_H_
#define MNEME_TESTS_SUPPORT_FAULT_KV_STORE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/store/kv_store.h"
#include "engine/store/store_errors.h"

namespace mneme {

// What is to go wrong in a FaultKvStore, and what went on. Outlives it, and a
// copy of it is all that a test needs to keep. Thread-safe.
class KvFaults {
 public:
  enum class Calls { kWrites, kReads, kAll };

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
  // Writes wait from now on, until Release.
  void Stall() {
    const absl::MutexLock lock(&mutex_);
    stalled_ = true;
  }
  void Release() {
    const absl::MutexLock lock(&mutex_);
    stalled_ = false;
  }
  // No call fails any more.
  void Heal() {
    const absl::MutexLock lock(&mutex_);
    countdown_ = 0;
    tear_countdown_ = 0;
    broken_ = false;
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
    const absl::MutexLock lock(&mutex_);
    const auto any = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return waiting_ > 0;
    };
    mutex_.Await(absl::Condition(&any));
  }

  // -- The store's side ------------------------------------------------------

  absl::Status OnRead() {
    const absl::MutexLock lock(&mutex_);
    ++seen_calls_;
    return Count(calls_ != Calls::kWrites);
  }
  // How many changes of the write to make; a write that is torn fails after
  // them.
  absl::Status OnWrite(size_t* changes) {
    const absl::MutexLock lock(&mutex_);
    ++seen_calls_;
    ++seen_writes_;
    ++waiting_;
    const auto released = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return !stalled_;
    };
    mutex_.Await(absl::Condition(&released));
    --waiting_;
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
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t seen_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t seen_writes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A store, shared with whoever opens it next, that fails as it is told to.
class FaultKvStore final : public KvStore {
 public:
  FaultKvStore(std::shared_ptr<KvStore> inner, std::shared_ptr<KvFaults> faults)
      : inner_(std::move(inner)), faults_(std::move(faults)) {}

  absl::Status Write(const Batch& batch, bool sync) override {
    size_t changes = batch.size();
    const absl::Status status = faults_->OnWrite(&changes);
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
    const absl::Status status = faults_->OnRead();
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
  absl::Status Compact() override {
    const absl::Status status = faults_->OnRead();
    return status.ok() ? inner_->Compact() : status;
  }
  int64_t used_bytes() const override { return inner_->used_bytes(); }
  bool durable() const override { return inner_->durable(); }

 private:
  const std::shared_ptr<KvStore> inner_;
  const std::shared_ptr<KvFaults> faults_;
};

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_FAULT_KV_STORE_H_
