// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_BACKOFF_H_
#define MNEME_CLIENT_BACKOFF_H_

#include "absl/random/random.h"
#include "absl/time/time.h"

namespace mneme::client {

// How long to wait before each further attempt: twice as long each time, up
// to a cap, less a random part, so that clients that failed together do not
// come back together. Not thread-safe.
class Backoff {
 public:
  Backoff(absl::Duration first, absl::Duration cap)
      : first_(first), cap_(cap), next_(first) {}

  // Between half of the step and the whole of it.
  absl::Duration Next();

  // Begins anew; for an attempt that got somewhere.
  void Reset() { next_ = first_; }

 private:
  const absl::Duration first_;
  const absl::Duration cap_;
  absl::Duration next_;
  absl::BitGen random_;
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_BACKOFF_H_
