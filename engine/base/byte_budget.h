// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_BYTE_BUDGET_H_
#define MNEME_ENGINE_BASE_BYTE_BUDGET_H_

#include <atomic>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"

namespace mneme {

// A number of bytes that may be promised to holders of reservations, never
// more. Thread-safe. Outlives its reservations.
class ByteBudget {
 public:
  // The right to use some bytes; gives them back when destroyed.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept { *this = std::move(other); }
    Reservation& operator=(Reservation&& other) noexcept {
      if (this != &other) {
        Release();
        budget_ = std::exchange(other.budget_, nullptr);
        bytes_ = std::exchange(other.bytes_, 0);
      }
      return *this;
    }
    ~Reservation() { Release(); }

    int64_t bytes() const { return bytes_; }
    // More bytes, or fewer; errors as Reserve, and then it is as it was.
    // REQUIRES: it was made by Reserve.
    absl::Status Resize(int64_t bytes, const char* what);
    void Release();

   private:
    friend class ByteBudget;
    Reservation(ByteBudget* budget, int64_t bytes)
        : budget_(budget), bytes_(bytes) {}

    ByteBudget* budget_ = nullptr;
    int64_t bytes_ = 0;
  };

  explicit ByteBudget(int64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  ByteBudget(const ByteBudget&) = delete;
  ByteBudget& operator=(const ByteBudget&) = delete;

  // RESOURCE_EXHAUSTED (reason RAM_BUDGET), naming `what`, the bytes wanted
  // and the bytes free, if they are not there.
  absl::StatusOr<Reservation> Reserve(int64_t bytes, const char* what);

  // False, and nothing changed, if more than that is in use.
  bool SetLimit(int64_t limit_bytes);

  int64_t limit_bytes() const {
    return limit_bytes_.load(std::memory_order_relaxed);
  }
  int64_t used_bytes() const {
    return used_bytes_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<int64_t> limit_bytes_;
  std::atomic<int64_t> used_bytes_{0};
};

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_BYTE_BUDGET_H_
