// SPDX-License-Identifier: Apache-2.0
#include "engine/text/post_processors.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/json_text.h"
#include "engine/base/status_macros.h"
#include "engine/text/json_fields.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr char kWhere[] = "tokenizer.json: post_processor";

// TemplateProcessing: [{"SpecialToken": {"id": "<s>"}}, {"Sequence": ...}], and
// what ids the names have.
absl::StatusOr<absl::optional<int32_t>> BeforeTemplate(JsonFields& fields,
                                                       int64_t vocab_size) {
  const json& single = fields.List("single");
  const json& tokens = fields.Object("special_tokens");
  fields.Ignore("pair");  // of two texts
  MNEME_RETURN_IF_ERROR(fields.Finish());
  absl::optional<int32_t> before;
  for (const json& piece : single) {
    if (piece.is_object() && piece.contains("Sequence")) return before;
    const auto named = piece.find("SpecialToken");
    if (!piece.is_object() || named == piece.end() || before.has_value()) {
      return WrongComponent(absl::StrCat(kWhere, ": \"single\""),
                            ShowJson(single),
                            "at most one special token, then the sequence");
    }
    JsonFields token(*named, absl::StrCat(kWhere, ": \"SpecialToken\""));
    const std::string name = token.String("id");
    token.Ignore("type_id");
    MNEME_RETURN_IF_ERROR(token.Finish());
    const auto it = tokens.is_object() ? tokens.find(name) : tokens.end();
    const json missing = json::object();
    const bool known = tokens.is_object() && it != tokens.end();
    JsonFields special(
        known ? *it : missing,
        absl::StrCat(kWhere, ": \"special_tokens\": ", ShowJson(name)));
    const json& ids = special.List("ids");
    special.Ignore("id");
    special.Ignore("tokens");
    MNEME_RETURN_IF_ERROR(special.Finish());
    if (ids.size() != 1 || !ids[0].is_number_unsigned() ||
        ids[0].get<uint64_t>() >= static_cast<uint64_t>(vocab_size)) {
      return WrongComponent(
          absl::StrCat(kWhere, ": \"special_tokens\": ", ShowJson(name),
                       ": \"ids\""),
          ShowJson(ids), absl::StrCat("one id below ", vocab_size));
    }
    before = ids[0].get<int32_t>();
  }
  return WrongComponent(absl::StrCat(kWhere, ": \"single\""), ShowJson(single),
                        "the sequence in it");
}

}  // namespace

absl::StatusOr<absl::optional<int32_t>> TokenBeforeText(
    const json& post_processor, int64_t vocab_size) {
  absl::optional<int32_t> before;
  if (post_processor.is_null()) return before;
  JsonFields fields(post_processor, kWhere);
  const std::string type = fields.Type();
  if (type == "TemplateProcessing") return BeforeTemplate(fields, vocab_size);
  if (type == "ByteLevel") {
    for (const char* key : {"add_prefix_space", "trim_offsets", "use_regex"}) {
      fields.Ignore(key);  // it changes offsets alone
    }
    MNEME_RETURN_IF_ERROR(fields.Finish());
    return before;
  }
  if (type != "Sequence") {
    return WrongComponent(absl::StrCat(kWhere, ": \"type\""),
                          absl::StrCat("\"", type, "\""),
                          "ByteLevel, Sequence or TemplateProcessing");
  }
  const json& all = fields.List("processors");
  MNEME_RETURN_IF_ERROR(fields.Finish());
  for (const json& one : all) {
    MNEME_ASSIGN_OR_RETURN(const absl::optional<int32_t> token,
                           TokenBeforeText(one, vocab_size));
    if (token.has_value() && before.has_value()) {
      return WrongComponent(kWhere, "two that put a token before the text",
                            "at most one");
    }
    if (token.has_value()) before = token;
  }
  return before;
}

}  // namespace mneme
