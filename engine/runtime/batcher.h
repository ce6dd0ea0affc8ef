// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_BATCHER_H_
#define MNEME_ENGINE_RUNTIME_BATCHER_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace mneme {

struct BatchLimits {
  int64_t max_rows = 0;
  int64_t max_sessions = 0;
};

// How many of the waiting step demands, oldest first, make the next pass, when
// each wants the given number of rows. At least one if any waits; a demand
// that does not fit is not overtaken, so none starves. A demand without rows
// (it wants only logits) counts as one.
size_t NextStepBatch(absl::Span<const int64_t> waiting_rows,
                     const BatchLimits& limits);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_BATCHER_H_
