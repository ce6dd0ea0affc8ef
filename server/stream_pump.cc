// SPDX-License-Identifier: Apache-2.0
#include "server/stream_pump.h"

#include <algorithm>

namespace mneme::server {

StreamPump::StreamPump() : thread_([this] { Run(); }) {}

StreamPump::~StreamPump() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  thread_.join();
}

void StreamPump::Drain() {
  absl::MutexLock lock(&mu_);
  draining_ = true;
  for (PumpedStream* stream : streams_) {
    if (!stream->queued_) {
      stream->queued_ = true;
      ready_.push_back(stream);
    }
  }
}

int64_t StreamPump::streams() const {
  absl::MutexLock lock(&mu_);
  return static_cast<int64_t>(streams_.size());
}

bool StreamPump::draining() const {
  absl::MutexLock lock(&mu_);
  return draining_;
}

bool StreamPump::AwaitEmpty(absl::Duration timeout) {
  absl::MutexLock lock(&mu_);
  const auto empty = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return streams_.empty();
  };
  return mu_.AwaitWithTimeout(absl::Condition(&empty), timeout);
}

void StreamPump::Join(PumpedStream* stream) {
  absl::MutexLock lock(&mu_);
  streams_.insert(stream);
}

void StreamPump::Leave(PumpedStream* stream) {
  absl::MutexLock lock(&mu_);
  const auto left = [this, stream]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return advancing_ != stream;
  };
  mu_.Await(absl::Condition(&left));
  // Nothing lets go of the lock from here on: whoever queued the stream while
  // it was awaited (a drain does) is undone.
  if (stream->queued_) {
    ready_.erase(std::find(ready_.begin(), ready_.end(), stream));
  }
  streams_.erase(stream);
}

void StreamPump::Wake(PumpedStream* stream) {
  absl::MutexLock lock(&mu_);
  if (stream->queued_) return;
  stream->queued_ = true;
  ready_.push_back(stream);
}

void StreamPump::Run() {
  absl::MutexLock lock(&mu_);
  while (true) {
    mu_.Await(absl::Condition(this, &StreamPump::HasWork));
    if (stopping_) return;
    PumpedStream* const stream = ready_.front();
    ready_.pop_front();
    stream->queued_ = false;
    advancing_ = stream;
    mu_.Unlock();
    stream->Advance();
    mu_.Lock();
    advancing_ = nullptr;
  }
}

}  // namespace mneme::server
