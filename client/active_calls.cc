// SPDX-License-Identifier: Apache-2.0
#include "client/active_calls.h"

namespace mneme::client {

void ActiveCalls::CancelAll() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
}

bool ActiveCalls::cancelled() {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

void ActiveCalls::Wait(absl::Duration duration) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&cancelled_), duration);
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
