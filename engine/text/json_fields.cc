// SPDX-License-Identifier: Apache-2.0
#include "engine/text/json_fields.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/json_text.h"
#include "engine/base/utf8.h"

namespace mneme {
namespace {

using nlohmann::json;

const json& NullJson() {
  static const auto* const null = new json(nullptr);
  return *null;
}

const json& EmptyList() {
  static const auto* const list = new json(json::array());
  return *list;
}

}  // namespace

JsonFields::JsonFields(const json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object_.is_object()) {
    status_ = WrongComponent(where_, ShowJson(object_), "an object");
  }
}

const json& JsonFields::Read(const char* key) {
  read_.insert(key);
  if (!object_.is_object()) return NullJson();
  const auto it = object_.find(key);
  return it == object_.end() ? NullJson() : *it;
}

std::string JsonFields::Type() { return StringOrNull("type").value_or(""); }

bool JsonFields::Bool(const char* key, bool absent) {
  const json& value = Read(key);
  if (value.is_null()) return absent;
  if (!value.is_boolean()) Wrong(key, value, "true or false");
  return value.is_boolean() ? value.get<bool>() : absent;
}

int64_t JsonFields::Int(const char* key, int64_t min, int64_t max) {
  const json& value = Read(key);
  if (value.is_number_integer() &&
      !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX)) {
    const auto number = value.get<int64_t>();
    if (number >= min && number <= max) return number;
  }
  Wrong(key, value, absl::StrCat("a whole number from ", min, " to ", max));
  return min;
}

std::string JsonFields::String(const char* key) {
  const json& value = Read(key);
  if (value.is_string()) return value.get<std::string>();
  Wrong(key, value, "a string");
  return "";
}

absl::optional<std::string> JsonFields::StringOrNull(const char* key) {
  const json& value = Read(key);
  if (value.is_null()) return absl::nullopt;
  return String(key);
}

char32_t JsonFields::Char(const char* key) {
  const absl::optional<char32_t> c = OnlyChar(String(key));
  if (!c.has_value()) Wrong(key, Read(key), "a string of one character");
  return c.value_or(' ');
}

const json& JsonFields::List(const char* key) {
  const json& value = Read(key);
  if (value.is_array()) return value;
  if (!value.is_null()) Wrong(key, value, "a list");
  return EmptyList();
}

const json& JsonFields::Object(const char* key) {
  const json& value = Read(key);
  if (value.is_object() || value.is_null()) return value;
  Wrong(key, value, "an object");
  return NullJson();
}

void JsonFields::MustBe(const char* key, const json& wanted) {
  const json& value = Read(key);
  if (!value.is_null() && value != wanted) Wrong(key, value, wanted.dump());
}

void JsonFields::Wrong(const char* key, const json& found,
                       std::string_view wanted) {
  if (!status_.ok()) return;
  status_ = WrongComponent(
      absl::StrCat(where_, ": \"", key, "\""),
      found.is_null() ? "null or nothing" : ShowJson(found), wanted);
}

absl::Status JsonFields::Finish() {
  if (!status_.ok()) return status_;
  for (const auto& [key, value] : object_.items()) {
    if (read_.count(key) > 0) continue;
    return WrongComponent(absl::StrCat(where_, ": ", ShowJson(key)),
                          ShowJson(value), "no such field");
  }
  return absl::OkStatus();
}

absl::Status WrongComponent(std::string_view where, std::string_view found,
                            std::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(where), ": found ",
                                                 std::string(found), ", want ",
                                                 std::string(wanted)));
}

absl::optional<char32_t> OnlyChar(std::string_view text) {
  if (text.empty()) return absl::nullopt;
  const Utf8Char c = FirstUtf8Char(text);
  if (c.kind != Utf8Char::Kind::kWhole ||
      c.bytes != static_cast<int64_t>(text.size())) {
    return absl::nullopt;
  }
  return c.code_point;
}

}  // namespace mneme
