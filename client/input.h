// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_INPUT_H_
#define MNEME_CLIENT_INPUT_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace mneme::client {

// Files, pipes or standard input, one behind the other, read once from front
// to back. Not thread-safe.
class Input {
 public:
  // "-" is standard input. All are opened at once. `stopped` is asked now and
  // then while a read waits; once it says true, reads fail with CANCELLED.
  // `between` comes between two of them.
  // NOT_FOUND, PERMISSION_DENIED, ...: as the system says.
  static absl::StatusOr<std::unique_ptr<Input>> Open(
      const std::vector<std::string>& paths, std::function<bool()> stopped,
      std::string between = "");

  ~Input();
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  // Bytes of them all; unset if one is no regular file.
  std::optional<int64_t> size() const { return size_; }

  // The next bytes, at most `max_bytes`. Waits for the first one only, so what
  // somebody types is not held back. Empty at the end.
  absl::StatusOr<std::string> Read(int64_t max_bytes);

 private:
  struct File {
    int fd = -1;
    std::string path;
  };

  Input(std::function<bool()> stopped, std::string between)
      : stopped_(std::move(stopped)), between_(std::move(between)) {}

  // What the first file gives next; empty at its end.
  absl::StatusOr<std::string> ReadFirst(int64_t max_bytes);

  const std::function<bool()> stopped_;
  const std::string between_;
  std::optional<int64_t> size_ = 0;
  std::deque<File> files_;  // not at their ends yet
  std::string ready_;       // comes before what the first file gives next
};

// Reads token ids in decimal, separated by white space. Holds no more than two
// pieces of 64 KiB, whatever comes.
class TokenReader {
 public:
  explicit TokenReader(Input* input) : input_(input) {}

  // The next ids, at most `max_tokens`; empty at the end.
  // INVALID_ARGUMENT: something that is no number from 0 to 2^31 - 1.
  absl::StatusOr<std::vector<int32_t>> Read(int64_t max_tokens);

 private:
  Input* const input_;
  std::string text_;  // Read, not parsed.
  bool at_end_ = false;
};

// The ids in `text`, as TokenReader reads them.
absl::StatusOr<std::vector<int32_t>> ParseTokens(const std::string& text);

}  // namespace mneme::client

#endif  // MNEME_CLIENT_INPUT_H_
