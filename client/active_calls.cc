// SPDX-License-Identifier: Apache-2.0
#include "client/active_calls.h"

#include <grpc/support/time.h>

#include <algorithm>
#include <chrono>

namespace mneme::client {
namespace {

// For a dial and the greeting; a server that does not answer in this time is
// found by the next call.
constexpr absl::Duration kLookTime = absl::Milliseconds(100);

// How long a wait may go on when it is cancelled.
constexpr absl::Duration kSlice = absl::Milliseconds(50);

// Waits for another state than `state`, not by the wall clock.
void AwaitChange(grpc::Channel& channel, grpc_connectivity_state state,
                 absl::Duration timeout) {
  channel.WaitForStateChange(
      state,
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                   gpr_time_from_micros(absl::ToInt64Microseconds(timeout) + 1,
                                        GPR_TIMESPAN)));
}

}  // namespace

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
  const auto start = std::chrono::steady_clock::now();
  bool unreachable = false;
  while (this->cancellations() == cancellations) {
    const absl::Duration left =
        duration - absl::FromChrono(std::chrono::steady_clock::now() - start);
    if (left <= absl::ZeroDuration()) return;
    const grpc_connectivity_state state =
        channel_->GetState(/*try_to_connect=*/true);
    // A server that is reached at once and then ends the call is no reason to
    // hurry.
    if (state == GRPC_CHANNEL_READY && unreachable) return;
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) unreachable = true;
    AwaitChange(*channel_, state, std::min(left, kSlice));
  }
}

void ActiveCalls::LookForServer() {
  const grpc_connectivity_state state =
      channel_->GetState(/*try_to_connect=*/false);
  if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) {
    AwaitChange(*channel_, state, kLookTime);
  }
}

ActiveCall::ActiveCall(ActiveCalls* calls) : calls_(calls) {
  {
    absl::MutexLock lock(&calls_->mutex_);
    calls_->contexts_.insert(&context_);
    if (calls_->cancelled_) context_.TryCancel();
  }
  calls_->LookForServer();
}

ActiveCall::~ActiveCall() {
  absl::MutexLock lock(&calls_->mutex_);
  calls_->contexts_.erase(&context_);
}

}  // namespace mneme::client
