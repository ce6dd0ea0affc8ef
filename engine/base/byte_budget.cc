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

absl::StatusOr<ByteBudget::Reservation> ByteBudget::Reserve(int64_t bytes,
                                                            const char* what) {
  int64_t used = used_bytes_.load(std::memory_order_relaxed);
  do {
    if (bytes > limit_bytes_ - used) {
      return WithReason(
          absl::ResourceExhaustedError(absl::StrCat(
              "memory for ", what, ": wants ", bytes, " bytes, ",
              limit_bytes_ - used, " of ", limit_bytes_, " are free")),
          {.reason = "RAM_BUDGET",
           .metadata = {{"wanted_bytes", absl::StrCat(bytes)},
                        {"free_bytes", absl::StrCat(limit_bytes_ - used)}}});
    }
  } while (!used_bytes_.compare_exchange_weak(used, used + bytes,
                                              std::memory_order_relaxed));
  return Reservation(this, bytes);
}

}  // namespace mneme
