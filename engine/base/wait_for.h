// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_WAIT_FOR_H_
#define MNEME_ENGINE_BASE_WAIT_FOR_H_

#include <functional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/synchronization/notification.h"

namespace mneme {

// Calls `start` with a function that is to be called once, by any thread, with
// the outcome of what was started; blocks until then.
template <typename Outcome>
Outcome WaitFor(absl::FunctionRef<void(std::function<void(Outcome)>)> start) {
  absl::Notification ended;
  Outcome outcome;
  start([&](Outcome told) {
    outcome = std::move(told);
    ended.Notify();
  });
  ended.WaitForNotification();
  return outcome;
}

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_WAIT_FOR_H_
