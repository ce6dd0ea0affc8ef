// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_SUPPORT_LATER_H_
#define MNEME_TESTS_SUPPORT_LATER_H_

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace mneme {

// How long a test waits for what has to come.
inline constexpr absl::Duration kPatience = absl::Seconds(10);

// What a call tells later, maybe never, maybe after the test has ended.
template <typename T>
class Later {
 public:
  std::function<void(absl::StatusOr<T>)> done() const {
    return [told = told_](absl::StatusOr<T> outcome) {
      told->outcome = std::move(outcome);
      told->notification.Notify();
    };
  }
  bool told() const { return told_->notification.HasBeenNotified(); }
  // DEADLINE_EXCEEDED if it is not told in time.
  absl::StatusOr<T> Await(absl::Duration patience = kPatience) const {
    if (told_->notification.WaitForNotificationWithTimeout(patience)) {
      return told_->outcome;
    }
    return absl::DeadlineExceededError("nothing was told");
  }

 private:
  struct Told {
    absl::Notification notification;
    absl::StatusOr<T> outcome = absl::UnknownError("nothing was told");
  };
  const std::shared_ptr<Told> told_ = std::make_shared<Told>();
};

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_LATER_H_
