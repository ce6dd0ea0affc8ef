// SPDX-License-Identifier: Apache-2.0
#include "engine/text/regex.h"

#include <cstdint>
#include <utility>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

constexpr size_t kMaxPatternBytes = 4096;
constexpr uint32_t kMaxNesting = 32;
constexpr uint32_t kMaxSteps = 1 << 20;
constexpr uint32_t kMaxHeapKib = 32 << 10;

template <auto free>
struct Freed {
  template <typename T>
  void operator()(T* pointer) const {
    free(pointer);
  }
};
using CompileContext =
    std::unique_ptr<pcre2_compile_context, Freed<pcre2_compile_context_free>>;

absl::Status BadPattern(int error, size_t at) {
  std::string message(256, '\0');
  const int length = pcre2_get_error_message(
      error, reinterpret_cast<PCRE2_UCHAR*>(message.data()), message.size());
  message.resize(length > 0 ? length : 0);
  return absl::InvalidArgumentError(
      absl::StrCat(message, " at byte ", at, " of its translation"));
}

}  // namespace

struct Regex::Code {
  std::unique_ptr<pcre2_code, Freed<pcre2_code_free>> pattern;
  std::unique_ptr<pcre2_match_context, Freed<pcre2_match_context_free>> limits;
};

struct Regex::Search::State {
  std::unique_ptr<pcre2_match_data, Freed<pcre2_match_data_free>> match;
};

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a pattern of ", pattern.size(), " bytes, want at most ",
                     kMaxPatternBytes));
  }
  MNEME_ASSIGN_OR_RETURN(const std::string translated,
                         TranslatePattern(pattern));
  const CompileContext context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), kMaxNesting);
  int error = 0;
  PCRE2_SIZE at = 0;
  auto code = std::make_unique<Code>();
  code->pattern.reset(pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE,
      &error, &at, context.get()));
  if (code->pattern == nullptr) return BadPattern(error, at);
  uint32_t matches_empty = 0;
  pcre2_pattern_info(code->pattern.get(), PCRE2_INFO_MATCHEMPTY,
                     &matches_empty);
  if (matches_empty != 0) {
    return absl::InvalidArgumentError(
        "it can match nothing, want one that matches a character or more");
  }
  // Without it matching is only slower: a system may forbid making code.
  pcre2_jit_compile(code->pattern.get(),
                    PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
  code->limits.reset(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(code->limits.get(), kMaxSteps);
  pcre2_set_heap_limit(code->limits.get(), kMaxHeapKib);
  return Regex(std::move(code));
}

Regex::Search::Search(const Regex& regex, std::string_view text, bool open)
    : regex_(regex),
      text_(text),
      open_(open),
      state_(std::make_unique<State>()) {
  state_->match.reset(pcre2_match_data_create(1, nullptr));
}

Regex::Search::~Search() = default;

Regex::Found Regex::Search::Next(size_t from) {
  using Kind = Found::Kind;
  if (from >= text_.size()) return {Kind::kNone, from, from};
  const uint32_t options =
      PCRE2_NO_UTF_CHECK | (open_ ? PCRE2_PARTIAL_HARD : 0);
  const auto match = [&](uint32_t more) {
    return pcre2_match(regex_.code_->pattern.get(),
                       reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(),
                       from, options | more, state_->match.get(),
                       regex_.code_->limits.get());
  };
  int found = match(0);
  // The interpreter goes back further than compiled patterns can.
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(PCRE2_NO_JIT);
  const PCRE2_SIZE* const at = pcre2_get_ovector_pointer(state_->match.get());
  if (found >= 0 && at[1] > at[0]) return {Kind::kMatch, at[0], at[1]};
  if (found == PCRE2_ERROR_PARTIAL) return {Kind::kUndecided, at[0], at[1]};
  // A limit says nothing about where it was met.
  const bool limit = found != PCRE2_ERROR_NOMATCH;
  return {limit && open_ ? Kind::kUndecided : Kind::kNone, from, from};
}

}  // namespace mneme
