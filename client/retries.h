// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_RETRIES_H_
#define MNEME_CLIENT_RETRIES_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/active_calls.h"
#include "client/backoff.h"
#include "client/client.h"

namespace mneme::client {

// Decides whether a call that may be made twice is made again. Not
// thread-safe.
class Retries {
 public:
  // `calls` and `options` outlive it. No attempt begins after `deadline`.
  Retries(ActiveCalls* calls, const ClientOptions& options, absl::Time deadline)
      : calls_(calls),
        options_(options),
        cancellations_(calls->cancellations()),
        deadline_(deadline),
        backoff_(options.first_backoff, options.longest_backoff) {}

  // After a failure: waits as long as it takes and returns true, or returns
  // false at once if the status, the number of attempts or the deadline
  // forbid another one.
  bool Wait(const absl::Status& status);

 private:
  ActiveCalls* const calls_;
  const ClientOptions& options_;
  const int64_t cancellations_;  // when the call was first made
  const absl::Time deadline_;
  Backoff backoff_;
  int attempts_ = 0;
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_RETRIES_H_
