// SPDX-License-Identifier: Apache-2.0
#include "engine/base/json_text.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// {"a": value}
absl::StatusOr<json> Parse(const std::string& value) {
  return ParseJsonObject(absl::StrCat("{\"a\":", value, "}"), "the file");
}

std::string Nested(int levels, const char* open, const char* close) {
  std::string text = "1";
  for (int i = 0; i < levels; ++i) text = absl::StrCat(open, text, close);
  return text;
}

TEST(ParseJsonObjectTest, AnObjectIsWhatItsTextSays) {
  const absl::StatusOr<json> object =
      ParseJsonObject(R"({"a": [1, 2.5, null], "b": {"c": "d"}})", "the file");
  ASSERT_THAT(object, IsOk());
  EXPECT_EQ(object->size(), 2u);
  EXPECT_EQ((*object)["a"], json({1, 2.5, nullptr}));
  EXPECT_EQ((*object)["b"]["c"], "d");
  EXPECT_THAT(ParseJsonObject("{}", ""), IsOk());
}

TEST(ParseJsonObjectTest, AnythingElseIsRefused) {
  for (const char* text : {"", "[]", "1", "null", "{", "{}}", "{\"a\":}"}) {
    EXPECT_THAT(ParseJsonObject(text, "the file"),
                Fails(kInvalid, "the file: not a JSON object"))
        << text;
  }
}

TEST(ParseJsonObjectTest, SixteenLevelsAreAsDeepAsItGoes) {
  for (const auto& [open, close] :
       {std::pair("[", "]"), std::pair("{\"k\":", "}")}) {
    EXPECT_THAT(Parse(Nested(15, open, close)), IsOk());
    EXPECT_THAT(Parse(Nested(17, open, close)),
                Fails(kInvalid, "the file: nested more than 16 levels deep"));
    EXPECT_THAT(Parse(Nested(100'000, open, close)), Fails(kInvalid, "nested"));
  }
}

TEST(ParseJsonObjectTest, DepthIsNotLength) {
  std::string shallow = "[[1]";
  for (int i = 0; i < 1000; ++i) shallow += ",[1],{\"k\":[1]}";
  EXPECT_THAT(Parse(shallow + "]"), IsOk());
}

TEST(ParseJsonObjectTest, AKeyStandsOnceInAnObjectAtAnyDepth) {
  EXPECT_THAT(ParseJsonObject(R"({"a":1,"b":2,"a":1})", "the file"),
              Fails(kInvalid, "the file: key \"a\""));
  EXPECT_THAT(Parse(R"({"b":1,"c":{"d":1,"d":2}})"), Fails(kInvalid, "\"d\""));
  EXPECT_THAT(Parse(R"([{"b":1,"b":1}])"), Fails(kInvalid, "\"b\""));
  EXPECT_THAT(ParseJsonObject("{\"\\u0061\":1,\"a\":1}", ""),
              Fails(kInvalid, "\"a\""));
}

TEST(ParseJsonObjectTest, DifferentObjectsMayHaveTheSameKey) {
  EXPECT_THAT(Parse(R"([{"a":1},{"a":1},{"b":{"a":1},"a":{"a":1}}])"), IsOk());
}

TEST(ShowJsonTest, AShortValueIsShownWhole) {
  EXPECT_EQ(ShowJson(json({1, "two", nullptr})), "[1,\"two\",null]");
}

TEST(ShowJsonTest, ALongValueIsCut) {
  EXPECT_EQ(ShowJson(std::string(100, 'x')), "\"" + std::string(59, 'x'));
}

TEST(ShowJsonTest, AValueIsNeverCutInsideACharacter) {
  for (int shift = 0; shift < 3; ++shift) {
    std::string text(shift, 'x');
    for (int i = 0; i < 40; ++i) text += "\xe2\x82\xac";  // three bytes each
    const std::string shown = ShowJson(text);
    // What is shown is itself a text that JSON can hold.
    EXPECT_EQ(json(shown)
                  .dump(-1, ' ', false, json::error_handler_t::replace)
                  .find("\xef\xbf\xbd"),
              std::string::npos)
        << shown;
  }
}

}  // namespace
}  // namespace mneme
