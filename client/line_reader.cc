// SPDX-License-Identifier: Apache-2.0
#include "client/line_reader.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cwchar>
#include <utility>

#include "absl/status/status.h"

namespace mneme::client {
namespace {

constexpr int kPollMilliseconds = 100;
constexpr int kHistoryLines = 1000;
constexpr size_t kMaxLineBytes = 1 << 20;
constexpr wchar_t kKillLine = L'\x15';  // Ctrl-U

const char* Prompt(EditLine* /*editor*/) { return "> "; }

}  // namespace

// libedit's objects and what its callback needs.
struct LineReader::Editor {
  explicit Editor(LineReader* its_reader) : reader(its_reader) {
    std::setlocale(LC_CTYPE, "");  // libedit decodes what is typed
    edit = el_init("mneme", stdin, stdout, stderr);
    history = history_init();
    HistEvent event;
    ::history(history, &event, H_SETSIZE, kHistoryLines);
    el_set(edit, EL_CLIENTDATA, this);
    el_set(edit, EL_PROMPT, &Prompt);
    el_set(edit, EL_EDITOR, "emacs");
    el_set(edit, EL_HIST, ::history, history);
    el_set(edit, EL_GETCFN, &Editor::ReadCharacter);
  }
  ~Editor() {
    history_end(history);
    el_end(edit);  // gives the terminal back as it was
  }

  // Reads a character while looking for what DropLine and `stopped` say.
  static int ReadCharacter(EditLine* edit, wchar_t* out) {
    Editor* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    std::mbstate_t state{};
    while (true) {
      if (self->reader->stopped_()) return 0;
      if (self->reader->drop_.exchange(false)) {
        *out = kKillLine;
        return 1;
      }
      pollfd wanted{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
      if (poll(&wanted, 1, kPollMilliseconds) <= 0) continue;
      char byte = 0;
      const ssize_t got = read(STDIN_FILENO, &byte, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return static_cast<int>(got);
      const size_t used = std::mbrtowc(out, &byte, 1, &state);
      if (used == static_cast<size_t>(-2)) continue;  // more bytes to come
      if (used == static_cast<size_t>(-1)) {
        state = {};
        continue;  // no character of this locale
      }
      return 1;
    }
  }

  LineReader* const reader;
  EditLine* edit = nullptr;
  History* history = nullptr;
};

LineReader::LineReader(std::function<bool()> stopped)
    : stopped_(std::move(stopped)) {
  if (isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1) {
    editor_ = std::make_unique<Editor>(this);
  }
}

LineReader::~LineReader() = default;

absl::StatusOr<std::optional<std::string>> LineReader::Read() {
  if (editor_ == nullptr) return ReadPlain();
  int count = 0;
  drop_ = false;
  const char* const line = el_gets(editor_->edit, &count);
  if (line == nullptr || count <= 0 || stopped_()) return std::nullopt;
  std::string text(line, static_cast<size_t>(count));
  if (text.back() == '\n') text.pop_back();
  if (!text.empty()) {
    HistEvent event;
    ::history(editor_->history, &event, H_ENTER, text.c_str());
  }
  return text;
}

absl::StatusOr<std::optional<std::string>> LineReader::ReadPlain() {
  while (true) {
    const size_t end = text_.find('\n');
    if (end != std::string::npos) {
      std::string line = text_.substr(0, end);
      text_.erase(0, end + 1);
      return line;
    }
    if (text_.size() > kMaxLineBytes) {
      return absl::InvalidArgumentError(
          "a line of the input is longer than 1 MiB");
    }
    if (at_end_ || stopped_()) {
      if (text_.empty() || stopped_()) return std::nullopt;
      return std::exchange(text_, "");
    }
    pollfd wanted{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (poll(&wanted, 1, kPollMilliseconds) <= 0) continue;
    char bytes[4096];
    const ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return absl::ErrnoToStatus(errno, "cannot read standard input");
    }
    at_end_ = got == 0;
    text_.append(bytes, static_cast<size_t>(got));
  }
}

}  // namespace mneme::client
