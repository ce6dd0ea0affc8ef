// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_REPLY_FILTER_H_
#define MNEME_ENGINE_TEXT_REPLY_FILTER_H_

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace mneme {

// How much of a text may be shown while it grows token by token. Held back is
// what may still become a stop string, and what begins a UTF-8 character that
// is not complete. Where the tokens were cut leaves no trace in what is shown
// in the end.
//
// Bytes that cannot become valid UTF-8 are shown as they are. A token without
// bytes (an end-of-text token that was to be ignored, say) parts what is
// before it from what is behind: no stop string and no character reaches
// across.
class ReplyFilter {
 public:
  // None of `stops` is empty.
  explicit ReplyFilter(std::vector<std::string> stops);

  // Takes the bytes of the next token. False if a stop string ends in them:
  // then what is shown ends where it begins, and nothing more may be added.
  // Of several, the one that ends first counts; of those that end together,
  // the longest.
  bool Add(std::string_view bytes);

  // The text ends here: what could have become a stop string is shown. An
  // incomplete character is not.
  void Finish();

  // Counted from the beginning of the text.
  int64_t shown_bytes() const { return shown_bytes_; }
  // Tokens that are shown to their last byte.
  int64_t shown_tokens() const { return shown_tokens_; }

  // The stop string that was met; empty if none was.
  const std::string& stop() const { return met_; }

 private:
  // Knuth, Morris and Pratt 1977: how much of the string the text ends with.
  struct Stop {
    std::string bytes;
    std::vector<int32_t> fallback;  // by length that matched, the next shorter
    int32_t matched = 0;
  };

  static void Advance(Stop& stop, char byte);
  // Shows the characters among the first `limit` held bytes.
  void ShowCharacters(int64_t limit);
  void Show(int64_t bytes);

  std::vector<Stop> stops_;
  std::string held_;                // bytes that were taken and not shown
  std::deque<int64_t> token_ends_;  // of tokens that are not shown to their end
  int64_t shown_bytes_ = 0;
  int64_t shown_tokens_ = 0;
  std::string met_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_REPLY_FILTER_H_
