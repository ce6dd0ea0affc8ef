// SPDX-License-Identifier: Apache-2.0
#include "client/input.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace mneme::client {
namespace {

constexpr char kSpace[] = " \t\r\n";
constexpr int kPollMilliseconds = 200;
constexpr int64_t kTokenTextBytes = 64 * 1024;
constexpr size_t kMaxTokenDigits = 1024;  // leading zeros included

// Whether a read would return at once.
bool Readable(int fd, int timeout_milliseconds) {
  pollfd wanted{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&wanted, 1, timeout_milliseconds) > 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Input>> Input::Open(
    const std::vector<std::string>& paths, std::function<bool()> stopped,
    std::string between) {
  std::unique_ptr<Input> input(
      new Input(std::move(stopped), std::move(between)));
  for (const std::string& path : paths) {
    const bool standard_input = path == "-";
    const int fd = standard_input ? dup(STDIN_FILENO)
                                  : open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
    }
    input->files_.push_back({fd, standard_input ? "standard input" : path});
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
      input->size_.reset();
    } else if (input->size_.has_value()) {
      *input->size_ += info.st_size;
    }
  }
  return input;
}

Input::~Input() {
  for (const File& file : files_) close(file.fd);
}

absl::StatusOr<std::string> Input::Read(int64_t max_bytes) {
  while (true) {
    if (!ready_.empty()) {
      std::string bytes = ready_.substr(0, static_cast<size_t>(max_bytes));
      ready_.erase(0, bytes.size());
      return bytes;
    }
    if (files_.empty()) return "";
    absl::StatusOr<std::string> bytes = ReadFirst(max_bytes);
    if (!bytes.ok() || !bytes->empty()) return bytes;
    close(files_.front().fd);
    files_.pop_front();
    if (!files_.empty()) ready_ = between_;
  }
}

absl::StatusOr<std::string> Input::ReadFirst(int64_t max_bytes) {
  const auto& [fd, path] = files_.front();
  std::string bytes(static_cast<size_t>(max_bytes), '\0');
  size_t filled = 0;
  while (filled < bytes.size()) {
    if (filled > 0 && !Readable(fd, 0)) break;
    while (!Readable(fd, kPollMilliseconds)) {
      if (stopped_()) return absl::CancelledError("interrupted");
    }
    const ssize_t got = read(fd, bytes.data() + filled, bytes.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
    }
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  if (stopped_()) return absl::CancelledError("interrupted");
  bytes.resize(filled);
  return bytes;
}

absl::StatusOr<std::vector<int32_t>> TokenReader::Read(int64_t max_tokens) {
  // Read until there is a number that surely ended.
  while (!at_end_) {
    text_.erase(0, std::min(text_.find_first_not_of(kSpace), text_.size()));
    if (text_.find_first_of(kSpace) != std::string::npos) break;
    // What goes on for so long is no number; ParseTokens says so.
    if (text_.size() > kMaxTokenDigits) return ParseTokens(text_);
    absl::StatusOr<std::string> more = input_->Read(kTokenTextBytes);
    if (!more.ok()) return more.status();
    at_end_ = more->empty();
    text_ += *more;
  }
  // Take whole numbers off the front.
  size_t end = 0;
  for (int64_t count = 0; count < max_tokens; ++count) {
    const size_t digit = text_.find_first_not_of(kSpace, end);
    if (digit == std::string::npos) {
      end = text_.size();
      break;
    }
    const size_t space = text_.find_first_of(kSpace, digit);
    if (space == std::string::npos && !at_end_) break;
    end = std::min(space, text_.size());
  }
  absl::StatusOr<std::vector<int32_t>> ids = ParseTokens(text_.substr(0, end));
  text_.erase(0, end);
  return ids;
}

absl::StatusOr<std::vector<int32_t>> ParseTokens(const std::string& text) {
  std::vector<int32_t> ids;
  for (const absl::string_view word :
       absl::StrSplit(text, absl::ByAnyChar(kSpace), absl::SkipEmpty())) {
    int32_t id = 0;
    if (word.size() > kMaxTokenDigits || !absl::SimpleAtoi(word, &id) ||
        id < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", word.substr(0, 32),
                       "\" is no token id, wanted 0 to ", INT32_MAX));
    }
    ids.push_back(id);
  }
  return ids;
}

}  // namespace mneme::client
