// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_JSON_FIELDS_H_
#define MNEME_ENGINE_TEXT_JSON_FIELDS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/optional.h"

namespace mneme {

// Reads the fields of an object, each under the form it has to have, so that
// one that nobody read is unknown. What is wrong first is kept for Finish; a
// read then gives its default.
class JsonFields {
 public:
  // `where` names the object: "tokenizer.json: model". Both outlive it, and
  // `object` came from ParseJsonObject.
  JsonFields(const nlohmann::json& object, std::string where);
  JsonFields(nlohmann::json&& object, std::string where) = delete;

  // "type", which tells the forms of components apart; empty if it is absent.
  std::string Type();
  bool Bool(const char* key, bool absent);
  int64_t Int(const char* key, int64_t min, int64_t max);
  std::string String(const char* key);
  // Nothing if it is absent or null.
  absl::optional<std::string> StringOrNull(const char* key);
  // A string of one character.
  char32_t Char(const char* key);
  // A list; an empty one if it is not there.
  const nlohmann::json& List(const char* key);
  // An object, or null if it is not there.
  const nlohmann::json& Object(const char* key);
  // A setting that is computed in one way only: absent, null or `wanted`.
  void MustBe(const char* key, const nlohmann::json& wanted);
  // A setting that does not matter here.
  void Ignore(const char* key) { read_.insert(key); }

  // Keeps `key`: found `found`, want `wanted`.
  void Wrong(const char* key, const nlohmann::json& found,
             std::string_view wanted);

  // INVALID_ARGUMENT naming the object, the field, the found and the wanted.
  absl::Status Finish();

 private:
  // The value; null if it is absent.
  const nlohmann::json& Read(const char* key);

  const nlohmann::json& object_;
  const std::string where_;
  std::set<std::string> read_;
  absl::Status status_;
};

// INVALID_ARGUMENT: `where`: found `found`, want `wanted`.
absl::Status WrongComponent(std::string_view where, std::string_view found,
                            std::string_view wanted);

// Of a string that is one character; nothing for another.
absl::optional<char32_t> OnlyChar(std::string_view text);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_JSON_FIELDS_H_
