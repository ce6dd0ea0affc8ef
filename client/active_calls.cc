// SPDX-License-Identifier: Apache-2.0
#include "client/active_calls.h"

namespace mneme::client {

void ActiveCalls::CancelRunning() {
  absl::MutexLock lock(&mutex_);
  ++cancellations_;
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
}

void ActiveCalls::CancelAll() {
  {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
  }
  CancelRunning();
}

int64_t ActiveCalls::cancellations() {
  absl::MutexLock lock(&mutex_);
  return cancellations_;
}

void ActiveCalls::Wait(absl::Duration duration, int64_t cancellations) {
  absl::MutexLock lock(&mutex_);
  const auto cancelled = [this, cancellations]()
                             ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
                               return cancellations_ != cancellations;
                             };
  mutex_.AwaitWithTimeout(absl::Condition(&cancelled), duration);
}

ActiveCall::ActiveCall(ActiveCalls* calls) : calls_(calls) {
  absl::MutexLock lock(&calls_->mutex_);
  calls_->contexts_.insert(&context_);
  if (calls_->cancelled_) context_.TryCancel();
}

ActiveCall::~ActiveCall() {
  absl::MutexLock lock(&calls_->mutex_);
  calls_->contexts_.erase(&context_);
}

}  // namespace mneme::client
