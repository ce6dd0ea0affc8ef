// SPDX-License-Identifier: Apache-2.0
#include "engine/text/reply_filter.h"

#include <algorithm>
#include <utility>

#include "engine/base/utf8.h"

namespace mneme {

ReplyFilter::ReplyFilter(std::vector<std::string> stops) {
  for (std::string& bytes : stops) {
    Stop stop{.bytes = std::move(bytes), .fallback = {0, 0}};
    // The string is matched against itself, one byte behind.
    for (size_t i = 1; i < stop.bytes.size(); ++i) {
      Advance(stop, stop.bytes[i]);
      stop.fallback.push_back(stop.matched);
    }
    stop.matched = 0;
    stops_.push_back(std::move(stop));
  }
}

void ReplyFilter::Advance(Stop& stop, char byte) {
  while (stop.matched > 0 && stop.bytes[stop.matched] != byte) {
    stop.matched = stop.fallback[stop.matched];
  }
  if (stop.bytes[stop.matched] == byte) ++stop.matched;
}

bool ReplyFilter::Add(std::string_view bytes) {
  const auto held = static_cast<int64_t>(held_.size());
  token_ends_.push_back(shown_bytes_ + held +
                        static_cast<int64_t>(bytes.size()));
  if (bytes.empty()) {
    for (Stop& stop : stops_) stop.matched = 0;
    Show(held);
    return true;
  }
  int64_t open = 0;  // bytes at the end that a stop string may begin with
  for (const char byte : bytes) {
    held_.push_back(byte);
    open = 0;
    for (Stop& stop : stops_) {
      Advance(stop, byte);
      open = std::max<int64_t>(open, stop.matched);
      if (stop.matched == static_cast<int32_t>(stop.bytes.size()) &&
          stop.bytes.size() > met_.size()) {
        met_ = stop.bytes;
      }
    }
    if (!met_.empty()) {
      ShowCharacters(static_cast<int64_t>(held_.size() - met_.size()));
      return false;
    }
  }
  ShowCharacters(static_cast<int64_t>(held_.size()) - open);
  return true;
}

void ReplyFilter::Finish() {
  if (met_.empty()) ShowCharacters(static_cast<int64_t>(held_.size()));
}

void ReplyFilter::ShowCharacters(int64_t limit) {
  int64_t end = 0;
  while (end < limit) {
    const Utf8Char c = FirstUtf8Char(std::string_view(held_).substr(end));
    if (c.kind == Utf8Char::Kind::kIncomplete || end + c.bytes > limit) break;
    end += c.bytes;
  }
  Show(end);
}

void ReplyFilter::Show(int64_t bytes) {
  held_.erase(0, bytes);
  shown_bytes_ += bytes;
  while (!token_ends_.empty() && token_ends_.front() <= shown_bytes_) {
    token_ends_.pop_front();
    ++shown_tokens_;
  }
}

}  // namespace mneme
