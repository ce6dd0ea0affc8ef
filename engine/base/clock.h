// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_CLOCK_H_
#define MNEME_ENGINE_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace mneme {

// Where time comes from, so that tests can hold it still. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Wall-clock time: what a user is shown. May jump.
  virtual absl::Time Now() const = 0;

  // Time since an arbitrary start that never goes back: what is measured.
  virtual absl::Duration Monotonic() const = 0;

  // The machine's clock. Lives as long as the program.
  static const Clock* Real();
};

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_CLOCK_H_
