// SPDX-License-Identifier: Apache-2.0
#include "engine/base/byte_budget.h"

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace mneme {

void ByteBudget::Reservation::Release() {
  if (budget_ != nullptr) {
    budget_->used_bytes_.fetch_sub(bytes_, std::memory_order_relaxed);
  }
  budget_ = nullptr;
  bytes_ = 0;
}

absl::Status ByteBudget::Reservation::Resize(int64_t bytes, const char* what) {
  if (bytes <= bytes_) {
    budget_->used_bytes_.fetch_sub(bytes_ - bytes, std::memory_order_relaxed);
    bytes_ = bytes;
    return absl::OkStatus();
  }
  absl::StatusOr<Reservation> more = budget_->Reserve(bytes - bytes_, what);
  if (!more.ok()) return more.status();
  more->budget_ = nullptr;  // this one has them now
  bytes_ = bytes;
  return absl::OkStatus();
}

// Lowered first and looked at then, so that no reservation slips between.
bool ByteBudget::SetLimit(int64_t limit_bytes) {
  const int64_t before = limit_bytes_.exchange(limit_bytes);
  if (used_bytes_.load() <= limit_bytes) return true;
  limit_bytes_.store(before);
  return false;
}

absl::StatusOr<ByteBudget::Reservation> ByteBudget::Reserve(int64_t bytes,
                                                            const char* what) {
  int64_t used = used_bytes_.load(std::memory_order_relaxed);
  do {
    const int64_t limit = limit_bytes();
    if (bytes > limit - used) {
      return WithReason(
          absl::ResourceExhaustedError(
              absl::StrCat("memory for ", what, ": wants ", bytes, " bytes, ",
                           limit - used, " of ", limit, " are free")),
          {.reason = "RAM_BUDGET",
           .metadata = {{"wanted_bytes", absl::StrCat(bytes)},
                        {"free_bytes", absl::StrCat(limit - used)}}});
    }
  } while (!used_bytes_.compare_exchange_weak(used, used + bytes,
                                              std::memory_order_relaxed));
  return Reservation(this, bytes);
}

}  // namespace mneme
