// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_BUFFER_POOL_H_
#define MNEME_ENGINE_BASE_BUFFER_POOL_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace mneme {

// Memory for what is large and short-lived: to get it from the system each time
// takes longer than what is done with it. Thread-safe.
class BufferPool {
 public:
  // `kept`: how many that are not used keep their memory.
  explicit BufferPool(size_t kept) : kept_(kept) {}

  // A buffer while it is used; the pool outlives it.
  class Lease {
   public:
    explicit Lease(BufferPool* pool) : pool_(pool), buffer_(pool->Take()) {}
    ~Lease() { pool_->Give(std::move(buffer_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    // At first its contents mean nothing.
    std::string& operator*() { return buffer_; }

   private:
    BufferPool* const pool_;
    std::string buffer_;
  };

 private:
  std::string Take() {
    const absl::MutexLock lock(&mutex_);
    if (buffers_.empty()) return std::string();
    std::string buffer = std::move(buffers_.back());
    buffers_.pop_back();
    return buffer;
  }
  void Give(std::string buffer) {
    const absl::MutexLock lock(&mutex_);
    if (buffers_.size() < kept_) buffers_.push_back(std::move(buffer));
  }

  const size_t kept_;
  absl::Mutex mutex_;
  std::vector<std::string> buffers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_BUFFER_POOL_H_
