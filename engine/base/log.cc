// SPDX-License-Identifier: Apache-2.0
#include "engine/base/log.h"

#include <unistd.h>

#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace mneme {

void WriteLog(LogLevel level, std::string_view message) {
  constexpr char kLetters[] = {'I', 'W', 'E'};
  std::string line = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ ", absl::Now(),
                                      absl::UTCTimeZone());
  line.push_back(kLetters[static_cast<int>(level)]);
  line.push_back(' ');
  line.append(message.data(), message.size());
  line.push_back('\n');
  // A full or closed standard error is no reason to stop serving.
  [[maybe_unused]] const ssize_t written =
      write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace mneme
