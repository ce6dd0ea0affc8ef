// SPDX-License-Identifier: Apache-2.0
//
// From Oniguruma's syntax to PCRE2's, as far as patterns that cut text into
// words need it: letters, escapes, classes and sets of them, alternatives,
// groups, quantifiers, look-ahead.
#include <cctype>
#include <cstdint>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/regex.h"

namespace mneme {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// What Oniguruma calls a property as PCRE2 does: general categories are named
// alike, but a bare script is to PCRE2 also what is used with it. Empty if
// it is not known to mean the same.
std::string Property(const std::string& name) {
  constexpr const char* kScripts[] = {
      "Arabic",    "Armenian", "Bengali", "Cyrillic", "Devanagari",
      "Ethiopic",  "Georgian", "Greek",   "Gujarati", "Gurmukhi",
      "Han",       "Hangul",   "Hebrew",  "Hiragana", "Kannada",
      "Katakana",  "Khmer",    "Lao",     "Latin",    "Malayalam",
      "Mongolian", "Myanmar",  "Sinhala", "Tamil",    "Telugu",
      "Thai",      "Tibetan"};
  for (const char* script : kScripts) {
    if (name == script) return absl::StrCat("sc:", name);
  }
  constexpr std::string_view kCategories =
      " C Cc Cf Cn Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf "
      "Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs ";
  const bool category =
      name.size() <= 2 &&
      kCategories.find(absl::StrCat(" ", name, " ")) != std::string_view::npos;
  return category ? name : "";
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : left_(pattern) {}

  absl::StatusOr<std::string> All() {
    while (!left_.empty()) {
      MNEME_RETURN_IF_ERROR(sets_ > 0 ? InSet() : Outside());
    }
    if (sets_ > 0) return Refused("[ without its ]");
    return out_;
  }

 private:
  bool Starts(std::string_view with) const {
    return left_.substr(0, with.size()) == with;
  }
  void Copy(size_t bytes) {
    out_ += left_.substr(0, bytes);
    left_.remove_prefix(bytes);
  }
  void Replace(size_t bytes, std::string_view with) {
    out_ += with;
    left_.remove_prefix(bytes);
  }
  static absl::Status Refused(std::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("its ", absl::CHexEscape(std::string(what)),
                     " is not served; want letters, escapes, sets, groups, "
                     "alternatives, quantifiers and look-ahead"));
  }

  absl::Status Outside();
  absl::Status InSet();
  absl::Status Escape();
  absl::Status Group();
  absl::Status Interval();

  std::string_view left_;
  std::string out_;
  int sets_ = 0;  // that are open, one inside the other
};

absl::Status Translator::Outside() {
  switch (left_[0]) {
    case '\\':
      return Escape();
    case '[':
      Copy(Starts("[^") ? 2 : 1);
      if (Starts("]")) return Refused("[]");
      sets_ = 1;
      return absl::OkStatus();
    case '(':
      return Group();
    case '{':
      return Interval();
    case '^':
    case '$':
      return Refused(left_.substr(0, 1));
    case ']':
    case '}':
      Replace(1, left_[0] == ']' ? "\\]" : "\\}");
      return absl::OkStatus();
    default:
      Copy(1);
      return absl::OkStatus();
  }
}

// A set inside a set adds to it, so that its brackets can go.
absl::Status Translator::InSet() {
  if (left_[0] == '\\') return Escape();
  for (const std::string_view refused : {"[:", "[^", "[]", "&&", "-[", "[-"}) {
    const bool first = refused == "[-" && out_.back() == '[';
    if (Starts(refused) && !first) return Refused(refused);
  }
  if (left_[0] == '[') {
    left_.remove_prefix(1);
    ++sets_;
  } else if (left_[0] != ']' || --sets_ == 0) {
    Copy(1);
  } else {
    left_.remove_prefix(1);
    if (Starts("-")) return Refused("]-");
  }
  return absl::OkStatus();
}

absl::Status Translator::Escape() {
  if (left_.size() < 2) return Refused("\\");
  const char c = left_[1];
  switch (c) {
    case 's':
      Replace(2, "\\p{White_Space}");
      return absl::OkStatus();
    case 'S':
      Replace(2, "\\P{White_Space}");
      return absl::OkStatus();
    case 'd':
      Replace(2, "\\p{Nd}");
      return absl::OkStatus();
    case 'D':
      Replace(2, "\\P{Nd}");
      return absl::OkStatus();
    case 'v':
      Replace(2, "\\x{0B}");
      return absl::OkStatus();
    case 'r':
    case 'n':
    case 't':
    case 'f':
      Copy(2);
      return absl::OkStatus();
    case 'p':
    case 'P':
    case 'x': {
      const size_t end = left_.find('}');
      if (left_.size() < 3 || left_[2] != '{' || end == left_.npos) {
        return Refused(left_.substr(0, 2));
      }
      if (c == 'x') {
        Copy(end + 1);
        return absl::OkStatus();
      }
      const std::string name(left_.substr(3, end - 3));
      const std::string property = Property(name);
      if (property.empty()) return Refused(left_.substr(0, end + 1));
      Replace(end + 1,
              absl::StrCat("\\", std::string(1, c), "{", property, "}"));
      return absl::OkStatus();
    }
    case 'u': {
      const std::string digits(left_.substr(2, 4));
      for (const char digit : digits) {
        if (!std::isxdigit(static_cast<uint8_t>(digit))) return Refused("\\u");
      }
      if (digits.size() < 4) return Refused("\\u");
      Replace(6, absl::StrCat("\\x{", digits, "}"));
      return absl::OkStatus();
    }
    default:
      if (!std::ispunct(static_cast<uint8_t>(c))) {
        return Refused(left_.substr(0, 2));
      }
      Copy(2);
      return absl::OkStatus();
  }
}

absl::Status Translator::Group() {
  for (const std::string_view served : {"(?:", "(?=", "(?!", "(?>", "(?i:"}) {
    if (!Starts(served)) continue;
    Copy(served.size());
    return absl::OkStatus();
  }
  if (Starts("(?") || Starts("(*")) return Refused(left_.substr(0, 3));
  Copy(1);
  return absl::OkStatus();
}

absl::Status Translator::Interval() {
  const size_t end = left_.find('}');
  size_t at = 1;
  while (at < left_.size() && IsDigit(left_[at])) ++at;
  const bool least = at > 1;
  if (at < left_.size() && left_[at] == ',') ++at;
  while (at < left_.size() && IsDigit(left_[at])) ++at;
  if (!least || at != end) return Refused(left_.substr(0, at));
  Copy(end + 1);
  if (Starts("+") || Starts("?")) return Refused("quantifier after {}");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> TranslatePattern(std::string_view pattern) {
  return Translator(pattern).All();
}

}  // namespace mneme
