// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/batcher.h"

#include <algorithm>

namespace mneme {

size_t NextStepBatch(absl::Span<const int64_t> waiting_rows,
                     const BatchLimits& limits) {
  int64_t rows = 0;
  size_t count = 0;
  for (const int64_t wanted : waiting_rows) {
    rows += std::max<int64_t>(wanted, 1);
    const bool fits = rows <= limits.max_rows &&
                      static_cast<int64_t>(count) < limits.max_sessions;
    if (count > 0 && !fits) break;
    ++count;
  }
  return count;
}

}  // namespace mneme
