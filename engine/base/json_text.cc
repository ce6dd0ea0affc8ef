// SPDX-License-Identifier: Apache-2.0
#include "engine/base/json_text.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 16;

}  // namespace

absl::StatusOr<json> ParseJsonObject(std::string_view text,
                                     std::string_view what) {
  bool too_deep = false;
  std::string repeated;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
        keys.emplace_back();
        break;
      case json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case json::parse_event_t::key:
        if (!keys.back().insert(parsed.get<std::string>()).second) {
          repeated = ShowJson(parsed);
        }
        break;
      default:
        break;
    }
    // What lies deeper is read over without being kept.
    if (depth > kMaxDepth) too_deep = true;
    return depth <= kMaxDepth;
  };
  json object = json::parse(text.begin(), text.end(), watch,
                            /*allow_exceptions=*/false);
  std::string fault;
  if (too_deep) {
    fault = absl::StrCat("nested more than ", kMaxDepth, " levels deep");
  } else if (!object.is_object()) {
    fault = "not a JSON object";
  } else if (!repeated.empty()) {
    fault = absl::StrCat("key ", repeated, " stands twice in one object");
  } else {
    return object;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(what), ": ", fault));
}

std::string ShowJson(const json& value) {
  constexpr size_t kMaxLength = 60;
  // Bytes that are not UTF-8 are replaced: the message is text.
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > kMaxLength) {
    size_t length = kMaxLength;
    while ((text[length] & 0xc0) == 0x80) --length;  // inside a character
    text.resize(length);
  }
  return text;
}

}  // namespace mneme
