// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_CONFIG_KEYS_H_
#define MNEME_ENGINE_MODEL_CONFIG_KEYS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace mneme {

// The largest size that any dimension may have: products of three of them
// still fit 64 bits.
inline constexpr int64_t kMaxDim = int64_t{1} << 20;
inline constexpr int64_t kMaxVocabulary = kMaxDim * 16;

// Takes keys out of a config.json, one typed read each, so that what is left
// at the end is unknown. A read leaves `value` as it is if the key is absent,
// and a wrong value is kept for Finish.
class KeyReader {
 public:
  explicit KeyReader(nlohmann::json object) : object_(std::move(object)) {}

  // `value` from `min` to `max`.
  void Int(const char* key, int64_t min, int64_t max, int64_t& value);
  void PositiveFloat(const char* key, float& value);
  void Bool(const char* key, bool& value);
  // One of `choices`; `absent`, or else the first of them, if there is no key.
  std::string Choice(const char* key, std::vector<std::string> choices,
                     std::string_view absent = {});
  // A token id, a list of them, or null for none.
  void TokenIds(const char* key, std::vector<int32_t>& ids);
  // A setting that this build computes in one way only.
  void MustBe(const char* key, const nlohmann::json& wanted);

  // INVALID_ARGUMENT naming the first wrong key, the found and the wanted, or
  // a key that is left, unless it can not change a result.
  absl::Status Finish();

 private:
  // The value, removed; discarded if there is none.
  nlohmann::json Take(const char* key);
  void Wrong(const char* key, const nlohmann::json& found,
             const std::string& wanted);

  nlohmann::json object_;
  absl::Status status_;  // of the first wrong key
};

// INVALID_ARGUMENT for keys that do not go together.
absl::Status Contradiction(const std::string& what);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_CONFIG_KEYS_H_
