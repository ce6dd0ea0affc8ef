// SPDX-License-Identifier: Apache-2.0
#include "engine/text/added_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/base/json_text.h"
#include "engine/base/status_macros.h"
#include "engine/text/json_fields.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr size_t kMaxTokens = 1 << 16;
constexpr size_t kMaxContentBytes = 512;
constexpr char kWhere[] = "tokenizer.json: added_tokens";

}  // namespace

absl::StatusOr<AddedTokens> AddedTokens::Parse(const json& added,
                                               int64_t vocab_size,
                                               bool normalizes) {
  AddedTokens out;
  if (added.size() > kMaxTokens) {
    return WrongComponent(kWhere, absl::StrCat(added.size(), " tokens"),
                          absl::StrCat("at most ", kMaxTokens));
  }
  absl::flat_hash_set<int32_t> ids;
  for (const json& one : added) {
    const bool named = one.is_object() && one.contains("content");
    const std::string where =
        absl::StrCat(kWhere, ": ", ShowJson(named ? one["content"] : one));
    JsonFields fields(one, where);
    Token token;
    token.content = fields.String("content");
    token.id = static_cast<int32_t>(fields.Int("id", 0, INT32_MAX));
    if (token.id >= vocab_size) {
      fields.Wrong("id", token.id,
                   absl::StrCat("an id below ", vocab_size,
                                ", config.json's \"vocab_size\""));
    }
    token.special = fields.Bool("special", false);
    for (const char* key : {"single_word", "lstrip", "rstrip"}) {
      // To special tokens, which no text becomes, it is all the same.
      if (fields.Bool(key, false) && !token.special) {
        fields.Wrong(key, true, "false for a token that is not special");
      }
    }
    // Then it is looked for in respelled text.
    const bool normalized = fields.Bool("normalized", !token.special);
    if (normalized && normalizes && !token.special) {
      fields.Wrong("normalized", true,
                   "false for a token that is not special, beside a "
                   "normalizer");
    }
    MNEME_RETURN_IF_ERROR(fields.Finish());
    if (token.content.empty() || token.content.size() > kMaxContentBytes ||
        !ids.insert(token.id).second) {
      return WrongComponent(
          where, absl::StrCat(token.content.size(), " bytes of content"),
          absl::StrCat("1 to ", kMaxContentBytes, ", and an id of its own"));
    }
    if (!token.special) out.groups_[normalized ? 1 : 0].Add(token);
    out.tokens_.push_back(std::move(token));
  }
  return out;
}

void AddedTokens::Group::Add(const Token& token) {
  auto& same_byte = by_byte[static_cast<uint8_t>(token.content[0])];
  const auto longer = [&](const Token& other) {
    return other.content.size() >= token.content.size();
  };
  same_byte.insert(
      std::partition_point(same_byte.begin(), same_byte.end(), longer), token);
  any = true;
}

AddedTokens::Found AddedTokens::Group::First(std::string_view text,
                                             bool open) const {
  for (size_t at = 0; any && at < text.size(); ++at) {
    const std::string_view here = text.substr(at);
    for (const Token& token : by_byte[static_cast<uint8_t>(text[at])]) {
      const std::string_view content = token.content;
      if (here.substr(0, content.size()) == content) {
        return {at, content.size(), token.id};
      }
      // A longer one than any that is there whole.
      if (open && here.size() < content.size() &&
          content.substr(0, here.size()) == here) {
        return {.begin = at};
      }
    }
  }
  return {.begin = text.size()};
}

AddedTokens::Found AddedTokens::First(std::string_view text, bool open) const {
  const Found first = groups_[0].First(text, open);
  const bool section_open = open && !first.id.has_value();
  const Found second =
      groups_[1].First(text.substr(0, first.begin), section_open);
  return second.begin < first.begin ? second : first;
}

}  // namespace mneme
