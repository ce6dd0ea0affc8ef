// SPDX-License-Identifier: Apache-2.0
//
// The regular expressions of tokenizer.json, which Oniguruma's syntax writes,
// matched by PCRE2.
//
// Why not by Oniguruma: text comes in piece by piece, and a piece of it is a
// token only if no continuation can make another of it. PCRE2 says whether a
// match looked at the end of the text (partial matching, pcre2partial(3));
// Oniguruma does not. What the two read differently is translated or refused.
#ifndef MNEME_ENGINE_TEXT_REGEX_H_
#define MNEME_ENGINE_TEXT_REGEX_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mneme {

// `pattern`, in the syntax of Oniguruma, in that of PCRE2. INVALID_ARGUMENT,
// saying what is not served: anything that looks at the text before a match
// (look-behind, anchors, word boundaries), and what has another meaning there.
absl::StatusOr<std::string> TranslatePattern(std::string_view pattern);

// Immutable and thread-safe.
class Regex {
 public:
  // INVALID_ARGUMENT as TranslatePattern, and for a pattern that is malformed,
  // too large, or matches the empty text.
  static absl::StatusOr<Regex> Compile(std::string_view pattern);

  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  struct Found {
    enum class Kind {
      kMatch,
      kNone,
      kUndecided,  // whether there is a match at `begin` depends on what
                   // follows
    };
    Kind kind = Kind::kNone;
    size_t begin = 0;
    size_t end = 0;
  };

  // Looks for matches in one text. Not thread-safe.
  class Search {
   public:
    // `open`: the text goes on in a way that is not known. All outlive it.
    // REQUIRES: UTF-8.
    Search(const Regex& regex, std::string_view text, bool open);
    ~Search();
    Search(const Search&) = delete;
    Search& operator=(const Search&) = delete;

    // The first match at or after `from`. One that takes more than a million
    // steps is none, or undecided where the text is open.
    Found Next(size_t from);

   private:
    struct State;
    const Regex& regex_;
    const std::string_view text_;
    const bool open_;
    std::unique_ptr<State> state_;
  };

 private:
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);

  std::unique_ptr<Code> code_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_REGEX_H_
