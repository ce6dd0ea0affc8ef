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
#include "absl/types/optional.h"

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
  // `where` stands before the keys of an object inside another: "outer.".
  explicit KeyReader(nlohmann::json object, std::string where = "")
      : object_(std::move(object)), where_(std::move(where)) {}

  // `value` from `min` to `max`.
  void Int(const char* key, int64_t min, int64_t max, int64_t& value);
  void IntOrNull(const char* key, int64_t min, int64_t max, int64_t& value);
  void PositiveFloat(const char* key, float& value);
  // Any number, "inf" or "-inf".
  void Number(const char* key, float& value);
  void PositiveFloatOrNull(const char* key, float& value);
  void Bool(const char* key, bool& value);
  // Lists of such.
  void Ints(const char* key, int64_t min, int64_t max,
            std::vector<int64_t>& values);
  void Bools(const char* key, std::vector<bool>& values);
  // One of `choices`; `absent`, or else the first of them, if there is no key.
  std::string Choice(const char* key, std::vector<std::string> choices,
                     std::string_view absent = {});
  // A list of such.
  void Choices(const char* key, const std::vector<std::string>& choices,
               std::vector<std::string>& values);
  // A token id, a list of them, or null for none.
  void TokenIds(const char* key, std::vector<int32_t>& ids);
  // One token id, or null for none.
  void TokenId(const char* key, absl::optional<int32_t>& id);
  // What reads the keys of an object inside this one, whose errors then count
  // as this one's; none if there is no such key, or null.
  template <typename Read>
  void Object(const char* key, const Read& read) {
    nlohmann::json found = Take(key);
    if (found.is_discarded() || found.is_null()) return;
    if (!found.is_object()) return Wrong(key, found, "an object, or null");
    KeyReader inner(std::move(found), where_ + key + ".");
    read(inner);
    status_.Update(inner.Finish());
  }
  bool Has(const char* key) const { return object_.contains(key); }
  // `other` is another spelling of `key`, which may not say something else.
  void Alias(const char* other, const char* key);

  // A setting that this build computes in one way only.
  void MustBe(const char* key, const nlohmann::json& wanted);

  // A list of nothing else.
  void MustBeListOf(const char* key, const nlohmann::json& wanted);
  // A setting that means nothing beside the others.
  void Ignore(const char* key) { object_.erase(key); }

  // INVALID_ARGUMENT naming the first wrong key, the found and the wanted, or
  // a key that is left, unless it can not change a result.
  absl::Status Finish();

 private:
  // The value, removed; discarded if there is none.
  nlohmann::json Take(const char* key);
  void Wrong(const char* key, const nlohmann::json& found,
             const std::string& wanted);

  // Takes a key that is null.
  bool TakeNull(const char* key);
  // The items of a list that are all `good`; else `wanted`.
  template <typename Item, typename Good>
  void List(const char* key, const std::string& wanted, const Good& good,
            std::vector<Item>& values);

  nlohmann::json object_;
  const std::string where_;
  absl::Status status_;  // of the first wrong key
};

// INVALID_ARGUMENT for keys that do not go together.
absl::Status Contradiction(const std::string& what);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_CONFIG_KEYS_H_
