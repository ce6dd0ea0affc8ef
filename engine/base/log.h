// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_LOG_H_
#define MNEME_ENGINE_BASE_LOG_H_

#include <string_view>

#include "absl/strings/str_cat.h"

namespace mneme {

enum class LogLevel { kInfo, kWarning, kError };

// Writes one line to standard error: UTC time, level, message. One write call
// a line, so lines of several threads do not mix.
void WriteLog(LogLevel level, std::string_view message);

template <typename... Args>
void LogInfo(const Args&... args) {
  WriteLog(LogLevel::kInfo, std::string(absl::StrCat(args...)));
}
template <typename... Args>
void LogWarning(const Args&... args) {
  WriteLog(LogLevel::kWarning, std::string(absl::StrCat(args...)));
}
template <typename... Args>
void LogError(const Args&... args) {
  WriteLog(LogLevel::kError, std::string(absl::StrCat(args...)));
}

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_LOG_H_
