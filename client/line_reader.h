// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_LINE_READER_H_
#define MNEME_CLIENT_LINE_READER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace mneme::client {

// Lines of standard input. On a terminal they can be edited and recalled
// (libedit); otherwise they are taken as they come, without a prompt. Not
// thread-safe, but for DropLine.
class LineReader {
 public:
  // Reads give the end of input once `stopped` says true.
  explicit LineReader(std::function<bool()> stopped);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  bool interactive() const { return editor_ != nullptr; }

  // The next line without its end, or nothing at the end of input. A line
  // that is not ended and longer than 1 MiB is INVALID_ARGUMENT.
  absl::StatusOr<std::optional<std::string>> Read();

  // Empties the line that is being edited. Thread-safe.
  void DropLine() { drop_ = true; }

 private:
  struct Editor;

  absl::StatusOr<std::optional<std::string>> ReadPlain();

  const std::function<bool()> stopped_;
  std::atomic<bool> drop_ = false;
  std::unique_ptr<Editor> editor_;  // null unless on a terminal
  std::string text_;                // read, not handed out
  bool at_end_ = false;
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_LINE_READER_H_
