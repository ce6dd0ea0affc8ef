// SPDX-License-Identifier: Apache-2.0
#include "client/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace mneme::client {
namespace {

constexpr int kBarWidth = 30;
constexpr absl::Duration kRedraw = absl::Milliseconds(100);
// Back to the first column, and everything right of it gone.
constexpr char kClearLine[] = "\r\x1b[K";

}  // namespace

std::string FormatBytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double amount = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (amount >= 1024 && unit + 1 < std::size(kUnits)) {
    amount /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", amount, kUnits[unit]);
}

std::string FormatProgress(int64_t done, std::optional<int64_t> total,
                           absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  const std::string speed =
      absl::StrCat(FormatBytes(static_cast<int64_t>(rate)), "/s");
  if (!total.has_value() || *total <= 0) {
    return absl::StrCat(FormatBytes(done), "  ", speed);
  }
  const double share = std::clamp(
      static_cast<double>(done) / static_cast<double>(*total), 0.0, 1.0);
  const int filled = static_cast<int>(share * kBarWidth);
  std::string line = absl::StrFormat(
      "[%s%s] %3d%%  %s of %s  %s", std::string(filled, '#'),
      std::string(kBarWidth - filled, '.'), static_cast<int>(share * 100),
      FormatBytes(done), FormatBytes(*total), speed);
  if (rate > 0 && done < *total) {
    const absl::Duration left =
        absl::Seconds(static_cast<double>(*total - done) / rate);
    absl::StrAppend(&line, "  ",
                    absl::FormatDuration(absl::Ceil(left, absl::Seconds(1))),
                    " left");
  }
  return line;
}

ProgressBar::ProgressBar(std::optional<int64_t> total_bytes)
    : visible_(isatty(STDERR_FILENO) == 1),
      total_bytes_(total_bytes),
      start_(absl::Now()) {}

ProgressBar::~ProgressBar() {
  if (visible_) std::fputs(kClearLine, stderr);
}

void ProgressBar::Clear() {
  if (!visible_) return;
  absl::MutexLock lock(&mutex_);
  std::fputs(kClearLine, stderr);
  drawn_ = absl::InfinitePast();
}

void ProgressBar::Update(int64_t done_bytes) {
  if (!visible_) return;
  const absl::Time now = absl::Now();
  absl::MutexLock lock(&mutex_);
  if (now - drawn_ < kRedraw) return;
  drawn_ = now;
  const std::string line =
      FormatProgress(done_bytes, total_bytes_, now - start_);
  std::fprintf(stderr, "%s%s", kClearLine, line.c_str());
}

}  // namespace mneme::client
