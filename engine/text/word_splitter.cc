// SPDX-License-Identifier: Apache-2.0
#include "engine/text/word_splitter.h"

#include <algorithm>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/text/regex.h"

namespace mneme {
namespace {

class PatternStage final : public WordSplitter::Stage {
 public:
  explicit PatternStage(Regex pattern) : pattern_(std::move(pattern)) {}

  void Split(std::string_view text, bool open,
             std::vector<Word>& parts) const override {
    using Kind = Regex::Found::Kind;
    Regex::Search search(pattern_, text, open);
    for (size_t at = 0; at < text.size();) {
      const Regex::Found found = search.Next(at);
      const bool match = found.kind == Kind::kMatch;
      // What no match begins in. A match may end it where none was found.
      const size_t gap = found.kind == Kind::kNone ? text.size() : found.begin;
      if (gap > at) {
        parts.push_back({.begin = at,
                         .end = gap,
                         .open = open && !match,
                         .cuttable = true});
      }
      if (!match) return;
      parts.push_back({.begin = found.begin, .end = found.end});
      at = found.end;
    }
  }
  bool local() const override { return false; }

 private:
  const Regex pattern_;
};

// Whether it cuts between two characters depends on these alone.
class SeparatorStage final : public WordSplitter::Stage {
 public:
  SeparatorStage(char32_t character, Separator separator)
      : character_(character), separator_(separator) {}

  void Split(std::string_view text, bool open,
             std::vector<Word>& parts) const override {
    size_t begin = 0;
    bool before = false;  // whether the last character is the separator
    for (size_t at = 0; at < text.size();) {
      const Utf8Char c = FirstUtf8Char(text.substr(at));
      const bool here = c.code_point == character_;
      if (at > begin && Cuts(before, here)) {
        parts.push_back({.begin = begin, .end = at, .cuttable = true});
        begin = at;
      }
      before = here;
      at += c.bytes;
    }
    if (begin == text.size()) return;
    parts.push_back(
        {.begin = begin, .end = text.size(), .open = open, .cuttable = true});
  }
  bool local() const override { return true; }

 private:
  bool Cuts(bool before, bool here) const {
    switch (separator_) {
      case Separator::kAlone:
        return before || here;
      case Separator::kEndsWord:
        return before;
      case Separator::kBeginsWord:
        return here;
      case Separator::kWithItsLike:
        break;
    }
    return before != here;
  }

  const char32_t character_;
  const Separator separator_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const WordSplitter::Stage>> MakePatternStage(
    std::string_view pattern) {
  MNEME_ASSIGN_OR_RETURN(Regex compiled, Regex::Compile(pattern));
  return std::unique_ptr<const WordSplitter::Stage>(
      std::make_unique<PatternStage>(std::move(compiled)));
}

std::unique_ptr<const WordSplitter::Stage> MakeSeparatorStage(
    char32_t character, Separator separator) {
  return std::make_unique<SeparatorStage>(character, separator);
}

bool WordSplitter::local() const {
  return std::all_of(stages_.begin(), stages_.end(),
                     [](const auto& stage) { return stage->local(); });
}

std::vector<Word> WordSplitter::Split(std::string_view text, bool open) const {
  std::vector<Word> words;
  if (text.empty()) return words;
  SplitFrom(0, text,
            {.begin = 0,
             .end = text.size(),
             .open = open,
             .cuttable = true,
             .cut_after = true},
            words);
  return words;
}

void WordSplitter::SplitFrom(size_t stage, std::string_view text,
                             const Word& word, std::vector<Word>& words) const {
  if (stage == stages_.size()) {
    words.push_back(word);
    return;
  }
  std::vector<Word> parts;
  stages_[stage]->Split(text.substr(word.begin, word.end - word.begin),
                        word.open, parts);
  for (Word part : parts) {
    part.begin += word.begin;
    part.end += word.begin;
    const bool last = part.end == word.end && !word.open;
    part.cut_after = last ? word.cut_after : word.cuttable;
    part.cuttable = part.cuttable && word.cuttable;
    SplitFrom(stage + 1, text, part, words);
  }
}

}  // namespace mneme
