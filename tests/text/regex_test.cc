// SPDX-License-Identifier: Apache-2.0
#include "engine/text/regex.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using Kind = Regex::Found::Kind;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

Regex Compiled(const std::string& pattern) {
  auto regex = Regex::Compile(pattern);
  EXPECT_THAT(regex, IsOk()) << pattern;
  return *std::move(regex);
}

// All matches of `pattern` in `text`.
std::vector<std::string> Matches(const std::string& pattern,
                                 const std::string& text) {
  const Regex regex = Compiled(pattern);
  Regex::Search search(regex, text, /*open=*/false);
  std::vector<std::string> matches;
  for (size_t at = 0;;) {
    const Regex::Found found = search.Next(at);
    if (found.kind != Kind::kMatch) return matches;
    matches.push_back(text.substr(found.begin, found.end - found.begin));
    at = found.end;
  }
}

Kind KindOf(const std::string& pattern, const std::string& open_text) {
  const Regex regex = Compiled(pattern);
  return Regex::Search(regex, open_text, /*open=*/true).Next(0).kind;
}

TEST(RegexTest, AMatchIsCertainOnlyOnceWhatFollowsCanNotChangeIt) {
  EXPECT_EQ(KindOf("\\p{L}+", "abc"), Kind::kUndecided);
  EXPECT_EQ(KindOf("\\p{L}+", "abc "), Kind::kMatch);
  EXPECT_EQ(KindOf("\\p{L}+", "12"), Kind::kNone);
  EXPECT_EQ(KindOf("\\p{N}{1,3}", "12"), Kind::kUndecided);
  EXPECT_EQ(KindOf("\\p{N}{1,3}", "123"), Kind::kMatch);
  EXPECT_EQ(KindOf("\\s+(?!\\S)|\\s+", "  "), Kind::kUndecided);
  EXPECT_EQ(KindOf("\\s+(?!\\S)|\\s+", "  a"), Kind::kMatch);
  EXPECT_EQ(KindOf("(?i:'ll)|.", "'"), Kind::kUndecided);
  EXPECT_EQ(KindOf("(?i:'ll)|.", "'L"), Kind::kUndecided);
  EXPECT_EQ(KindOf("(?i:'ll)|.", "'x"), Kind::kMatch);
  const Regex regex = Compiled("ab");
  const Regex::Found found = Regex::Search(regex, "xxa", true).Next(0);
  EXPECT_EQ(found.kind, Kind::kUndecided);
  EXPECT_EQ(found.begin, 2u);
}

TEST(RegexTest, ReadsOnigurumasSyntax) {
  EXPECT_THAT(Matches("\\s", "\xc2\x85"), ElementsAre("\xc2\x85"));
  // No space since Unicode 6.3.
  EXPECT_THAT(Matches("\\S", "\xe1\xa0\x8e"), ElementsAre("\xe1\xa0\x8e"));
  EXPECT_THAT(Matches("[a[bc]]+", "xabcx"), ElementsAre("abc"));
  // A comma of Han texts is no Han character.
  EXPECT_THAT(Matches("\\p{Han}+", "\xe6\xbc\xa2\xe3\x80\x81\xe6\xbc\xa2"),
              ElementsAre("\xe6\xbc\xa2", "\xe6\xbc\xa2"));
  EXPECT_THAT(Matches("[^(\\s|[.,!])]+", "a (b|c).d]"),
              ElementsAre("a", "b", "c", "d]"));
  EXPECT_THAT(Matches("\\d+", "1\xd9\xa3"), ElementsAre("1\xd9\xa3"));
  EXPECT_THAT(Matches("\\u00e9|\\x{65}", "e\xc3\xa9"),
              ElementsAre("e", "\xc3\xa9"));
  EXPECT_THAT(Matches("a]|}", "a]}"), ElementsAre("a]", "}"));
  EXPECT_THAT(Matches("'(?i:s)", "'s 'S '\xc5\xbf"),
              ElementsAre("'s", "'S", "'\xc5\xbf"));
}

TEST(RegexTest, RefusesWhatIsReadOtherwiseOrLooksBack) {
  for (const char* pattern :
       {"^a",      "a$",          "\\ba",    "\\w",      "\\h",     "\\A",
        "\\G",     "\\Ka",        "(?<=a)b", "(?<!a)b",  "(?<n>a)", "(?i)a",
        "(*UTF)a", "[[:alpha:]]", "[a&&b]",  "[^a[^b]]", "[]a]",    "a{,3}",
        "a{1,3}+", "a{2}?",       "[a",      "\\",       "\\1a"}) {
    EXPECT_THAT(Regex::Compile(pattern), Fails(kInvalid, "is not served"))
        << pattern;
  }
  EXPECT_THAT(Regex::Compile("(a"), Fails(kInvalid, "parenthes"));
  for (const char* property :
       {"\\p{Novel}", "\\P{sc:Han}", "\\p{^L}", "\\p{Lx}"}) {
    EXPECT_THAT(Regex::Compile(property), Fails(kInvalid, "is not served"));
  }
  EXPECT_THAT(Regex::Compile("a*"), Fails(kInvalid, "it can match nothing"));
  EXPECT_THAT(Regex::Compile(""), Fails(kInvalid, "it can match nothing"));
  EXPECT_THAT(Regex::Compile(std::string(5000, 'a')),
              Fails(kInvalid, "a pattern of 5000 bytes"));
  EXPECT_THAT(
      Regex::Compile(std::string(100, '(') + "a" + std::string(100, ')')),
      Fails(kInvalid, "nested"));
}

// (a+)+b takes time that doubles with every letter.
TEST(RegexTest, AMatchThatTakesTooLongIsNone) {
  const Regex regex = Compiled("(a+)+b");
  const std::string text(5000, 'a');
  EXPECT_EQ(Regex::Search(regex, text, false).Next(0).kind, Kind::kNone);
  EXPECT_EQ(Regex::Search(regex, text, true).Next(0).kind, Kind::kUndecided);
}

TEST(RegexTest, LongMatchesOfGroupsAreFound) {
  const std::string text(8000, 'a');
  EXPECT_THAT(Matches("(?:a|b)+", text), ElementsAre(text));
}

}  // namespace
}  // namespace mneme
