// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_INPUT_H_
#define MNEME_CLIENT_INPUT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace mneme::client {

// A file, a pipe or standard input, read once from front to back.
class Input {
 public:
  // "-" is standard input. `stopped` is asked now and then while a read waits;
  // once it says true, reads fail with CANCELLED.
  // NOT_FOUND, PERMISSION_DENIED, ...: as the system says.
  static absl::StatusOr<std::unique_ptr<Input>> Open(
      const std::string& path, std::function<bool()> stopped);

  ~Input();
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  // Bytes of a regular file; unset for anything else.
  std::optional<int64_t> size() const { return size_; }

  // The next bytes, at most `max_bytes`. Waits for the first one only, so what
  // somebody types is not held back. Empty at the end.
  absl::StatusOr<std::string> Read(int64_t max_bytes);

 private:
  Input(int fd, std::string path, std::optional<int64_t> size,
        std::function<bool()> stopped);

  const int fd_;
  const std::string path_;
  const std::optional<int64_t> size_;
  const std::function<bool()> stopped_;
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
