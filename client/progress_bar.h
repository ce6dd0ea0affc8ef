// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_PROGRESS_BAR_H_
#define MNEME_CLIENT_PROGRESS_BAR_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace mneme::client {

// "1.5 MiB" for 1572864; whole bytes below 1 KiB.
std::string FormatBytes(int64_t bytes);

// One line for `done` of `total` after `elapsed`: bar, amount, rate and time
// left; without a total amount and rate only.
std::string FormatProgress(int64_t done, std::optional<int64_t> total,
                           absl::Duration elapsed);

// A progress line on standard error, which is drawn ten times a second at most
// and only if standard error is a terminal. Thread-safe.
class ProgressBar {
 public:
  explicit ProgressBar(std::optional<int64_t> total_bytes);
  // Clears the line.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Makes room for a message; the next update draws again.
  void Clear() ABSL_LOCKS_EXCLUDED(mutex_);

  void Update(int64_t done_bytes) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const bool visible_;
  const std::optional<int64_t> total_bytes_;
  const absl::Time start_;
  absl::Mutex mutex_;
  absl::Time drawn_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_PROGRESS_BAR_H_
