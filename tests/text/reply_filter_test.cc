// SPDX-License-Identifier: Apache-2.0
#include "engine/text/reply_filter.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

using Strings = std::vector<std::string>;

// A filter with the text it was given, to see what it shows.
class Reply {
 public:
  explicit Reply(const Strings& stops) : filter_(stops) {}

  bool Add(const std::string& token) {
    text_ += token;
    return filter_.Add(token);
  }
  std::string Finish() {
    filter_.Finish();
    return shown();
  }
  std::string shown() const { return text_.substr(0, filter_.shown_bytes()); }
  int64_t tokens() const { return filter_.shown_tokens(); }
  const std::string& stop() const { return filter_.stop(); }

 private:
  ReplyFilter filter_;
  std::string text_;
};

TEST(ReplyFilterTest, WithoutStopsTextIsShownAtOnce) {
  Reply reply({});
  EXPECT_TRUE(reply.Add("ab"));
  EXPECT_EQ(reply.shown(), "ab");
  EXPECT_EQ(reply.tokens(), 1);
}

TEST(ReplyFilterTest, AStopStringInsideATokenHidesItsTokenButNotTheTextBefore) {
  Reply reply({"STOP"});
  EXPECT_TRUE(reply.Add("one "));
  EXPECT_FALSE(reply.Add("twoSTOPthree"));
  EXPECT_EQ(reply.shown(), "one two");
  EXPECT_EQ(reply.tokens(), 1);
  EXPECT_EQ(reply.stop(), "STOP");
}

TEST(ReplyFilterTest, AStopStringMayBeginInOneTokenAndEndInAnother) {
  Reply reply({"\n\nUser:"});
  EXPECT_TRUE(reply.Add("Hello.\n"));
  EXPECT_EQ(reply.shown(), "Hello.");  // the rest may be the beginning
  EXPECT_EQ(reply.tokens(), 0);
  EXPECT_TRUE(reply.Add("\nUs"));
  EXPECT_EQ(reply.shown(), "Hello.");
  EXPECT_FALSE(reply.Add("er: What"));
  EXPECT_EQ(reply.Finish(), "Hello.");
  EXPECT_EQ(reply.tokens(), 0);
}

TEST(ReplyFilterTest, WhatTurnsOutNotToBeAStopStringIsShown) {
  Reply reply({"abab!"});
  EXPECT_TRUE(reply.Add("xaba"));
  EXPECT_EQ(reply.shown(), "x");
  EXPECT_TRUE(reply.Add("b"));
  EXPECT_TRUE(reply.Add("ab"));  // "ababab": the last four may still
  EXPECT_EQ(reply.shown(), "xab");
  EXPECT_EQ(reply.tokens(), 0);
  EXPECT_TRUE(reply.Add("?"));
  EXPECT_EQ(reply.shown(), "xababab?");
  EXPECT_EQ(reply.tokens(), 4);
}

TEST(ReplyFilterTest, TheEndDecidesForWhatWasHeld) {
  Reply reply({"abc"});
  EXPECT_TRUE(reply.Add("xab"));
  EXPECT_EQ(reply.shown(), "x");
  EXPECT_EQ(reply.Finish(), "xab");
  EXPECT_EQ(reply.tokens(), 1);
  EXPECT_EQ(reply.stop(), "");
}

TEST(ReplyFilterTest, TheStopStringThatEndsFirstCountsAndThenTheLongest) {
  Reply first({"abcd", "bc"});
  EXPECT_FALSE(first.Add("abcd"));
  EXPECT_EQ(first.stop(), "bc");
  EXPECT_EQ(first.shown(), "a");
  Reply longest({"c", "abc", "bc"});
  EXPECT_FALSE(longest.Add("xabcd"));
  EXPECT_EQ(longest.stop(), "abc");
  EXPECT_EQ(longest.shown(), "x");
}

TEST(ReplyFilterTest, NoCharacterIsShownInHalves) {
  Reply reply({});
  EXPECT_TRUE(reply.Add("a\xe2"));
  EXPECT_EQ(reply.shown(), "a");
  EXPECT_EQ(reply.tokens(), 0);
  EXPECT_TRUE(reply.Add("\x82"));
  EXPECT_EQ(reply.shown(), "a");
  EXPECT_TRUE(reply.Add("\xac"));
  EXPECT_EQ(reply.shown(), "a\xe2\x82\xac");
  EXPECT_EQ(reply.tokens(), 3);
  EXPECT_TRUE(reply.Add("\xf0\x9f"));
  EXPECT_EQ(reply.Finish(), "a\xe2\x82\xac");  // left out
  EXPECT_EQ(reply.tokens(), 3);
}

TEST(ReplyFilterTest, BytesThatCannotBecomeUtf8PassAsTheyAre) {
  Reply reply({});
  EXPECT_TRUE(reply.Add("\xff\x80"));
  EXPECT_EQ(reply.shown(), "\xff\x80");
  EXPECT_TRUE(reply.Add("\xe2"));
  EXPECT_EQ(reply.tokens(), 1);
  EXPECT_TRUE(reply.Add("x"));
  EXPECT_EQ(reply.shown(), "\xff\x80\xe2x");
  EXPECT_TRUE(reply.Add("\xed\xa0"));  // a surrogate
  EXPECT_EQ(reply.shown(), "\xff\x80\xe2x\xed\xa0");
}

TEST(ReplyFilterTest, AStopStringMayFollowHalfACharacter) {
  Reply reply({"\xe2\x82\xac"});
  EXPECT_TRUE(reply.Add("a\xc3"));
  EXPECT_FALSE(reply.Add("\xe2\x82\xac"));
  EXPECT_EQ(reply.Finish(), "a\xc3");
}

TEST(ReplyFilterTest, ATokenWithoutBytesPartsTheText) {
  Reply reply({"ab"});
  EXPECT_TRUE(reply.Add("xa"));
  EXPECT_TRUE(reply.Add(""));
  EXPECT_EQ(reply.shown(), "xa");
  EXPECT_EQ(reply.tokens(), 2);
  EXPECT_TRUE(reply.Add("b"));
  EXPECT_EQ(reply.shown(), "xab");
  EXPECT_TRUE(reply.Add("\xe2"));
  EXPECT_TRUE(reply.Add(""));
  EXPECT_EQ(reply.shown(), "xab\xe2");
}

// Random texts over a small alphabet against a search of the whole text: each
// prefix shows only what is decided, and cuts leave no trace.
TEST(ReplyFilterTest, AgreesWithASearchOfTheWholeText) {
  std::mt19937 random(3);
  const Strings alphabet = {"a", "b", "\xc3", "\xa4", "\xe2\x82\xac"};
  const auto any_text = [&](int longest) {
    std::string text;
    const int pieces = std::uniform_int_distribution<>(1, longest)(random);
    for (int i = 0; i < pieces; ++i) text += alphabet[random() % 5];
    return text;
  };
  int met = 0;
  for (int round = 0; round < 5000; ++round) {
    Strings stops;
    for (int i = std::uniform_int_distribution<>(0, 3)(random); i > 0; --i) {
      stops.push_back(any_text(5));
    }
    const std::string text = any_text(25);
    // The stop string that ends first, and of those the longest.
    size_t end = std::string::npos;
    std::string wanted_stop;
    for (const std::string& stop : stops) {
      const size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      const size_t stop_end = at + stop.size();
      if (stop_end < end ||
          (stop_end == end && stop.size() > wanted_stop.size())) {
        end = stop_end;
        wanted_stop = stop;
      }
    }
    std::vector<std::string> results;
    for (int cut = 0; cut < 3; ++cut) {
      Reply reply(stops);
      size_t at = 0;
      bool going_on = true;
      while (going_on && at < text.size()) {
        const size_t size =
            cut == 0 ? 1 : std::uniform_int_distribution<>(1, 7)(random);
        going_on = reply.Add(text.substr(at, size));
        at = std::min(at + size, text.size());
        const std::string shown = reply.shown();
        ASSERT_EQ(text.compare(0, shown.size(), shown), 0);
      }
      ASSERT_EQ(reply.stop(), wanted_stop);
      ASSERT_EQ(going_on, wanted_stop.empty());
      results.push_back(reply.Finish());
      // Never more than up to the stop string; less only by an incomplete
      // character.
      const size_t limit = going_on ? text.size() : end - wanted_stop.size();
      ASSERT_LE(results.back().size(), limit);
      ASSERT_GE(results.back().size() + 2, limit);
      ASSERT_EQ(results.back(), results.front());
    }
    met += wanted_stop.empty() ? 0 : 1;
  }
  EXPECT_GT(met, 1000);
}

}  // namespace
}  // namespace mneme
