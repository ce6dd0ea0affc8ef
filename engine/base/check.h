// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_CHECK_H_
#define MNEME_ENGINE_BASE_CHECK_H_

#include "absl/base/internal/raw_logging.h"

// Ends the program, naming the place, if `condition` is false: for bugs of
// ours only, never for input.
#define MNEME_CHECK(condition)                             \
  do {                                                     \
    if (!(condition)) {                                    \
      ABSL_RAW_LOG(FATAL, "check failed: %s", #condition); \
    }                                                      \
  } while (false)

#ifdef NDEBUG
#define MNEME_DCHECK(condition) \
  do {                          \
  } while (false && (condition))
#else
#define MNEME_DCHECK(condition) MNEME_CHECK(condition)
#endif

#endif  // MNEME_ENGINE_BASE_CHECK_H_
