// SPDX-License-Identifier: Apache-2.0
#include "engine/model/shard_index.h"

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/json_text.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr char kSuffix[] = ".safetensors";
constexpr size_t kMaxFileNameBytes = 255;

// A name with a slash could lead out of the folder, and one with a zero would
// be cut at it by the system.
bool IsShardName(const std::string& name) {
  return name.size() > sizeof(kSuffix) - 1 &&
         name.size() <= kMaxFileNameBytes && absl::EndsWith(name, kSuffix) &&
         name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

}  // namespace

absl::StatusOr<ShardIndex> ParseShardIndex(std::string_view json_text) {
  MNEME_ASSIGN_OR_RETURN(const json object,
                         ParseJsonObject(json_text, "the index"));
  const json* map = nullptr;
  for (const auto& item : object.items()) {
    if (item.key() == "weight_map") {
      map = &item.value();
    } else if (item.key() != "metadata") {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown key ", ShowJson(item.key()),
                       ", want \"weight_map\" and \"metadata\""));
    }
  }
  if (map == nullptr || !map->is_object() || map->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"weight_map\" is ", map == nullptr ? "missing" : ShowJson(*map),
        ", want an object of tensors and their files"));
  }
  ShardIndex index;
  for (const auto& item : map->items()) {
    if (!item.value().is_string() ||
        !IsShardName(item.value().get_ref<const std::string&>())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"weight_map\": tensor ", ShowJson(item.key()), " is in ",
          ShowJson(item.value()), ", want a file name ending in ", kSuffix,
          ", in the folder of the index"));
    }
    index.emplace(item.key(), item.value().get<std::string>());
  }
  return index;
}

}  // namespace mneme
