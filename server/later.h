// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_LATER_H_
#define MNEME_SERVER_LATER_H_

#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "engine/engine.h"

namespace mneme::server {

// What the engine gives later to a stream that may be gone by then: what comes
// too late is dropped. Guarded by its reactor.
template <typename T>
class Later {
 public:
  Later() = default;
  ~Later() { GiveUp(); }
  Later(const Later&) = delete;
  Later& operator=(const Later&) = delete;

  // What to call, once, from any thread, under any lock but those that
  // OnProgress of `listener` takes, which hears of it. REQUIRES: !pending().
  std::function<void(absl::StatusOr<T>)> Await(StreamListener* listener) {
    shared_ = std::make_shared<Shared>(listener);
    return [shared = shared_](absl::StatusOr<T> outcome) {
      absl::MutexLock lock(&shared->mu);
      if (shared->listener == nullptr) return;
      shared->outcome = std::move(outcome);
      shared->listener->OnProgress();
    };
  }

  // It was awaited, and neither taken nor given up.
  bool pending() const { return shared_ != nullptr; }

  // What came, once. REQUIRES: pending().
  absl::optional<absl::StatusOr<T>> Take() {
    absl::optional<absl::StatusOr<T>> outcome;
    {
      absl::MutexLock lock(&shared_->mu);
      outcome = std::exchange(shared_->outcome, absl::nullopt);
    }
    if (outcome.has_value()) shared_.reset();
    return outcome;
  }

  // The listener hears nothing more when this returns.
  void GiveUp() {
    const std::shared_ptr<Shared> shared = std::exchange(shared_, nullptr);
    if (shared == nullptr) return;
    absl::optional<absl::StatusOr<T>> dropped;  // outside of the lock
    absl::MutexLock lock(&shared->mu);
    shared->listener = nullptr;
    dropped = std::exchange(shared->outcome, absl::nullopt);
  }

 private:
  struct Shared {
    explicit Shared(StreamListener* who) : listener(who) {}
    absl::Mutex mu;
    StreamListener* listener ABSL_GUARDED_BY(mu);  // null: nobody waits
    absl::optional<absl::StatusOr<T>> outcome ABSL_GUARDED_BY(mu);
  };
  std::shared_ptr<Shared> shared_;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_LATER_H_
