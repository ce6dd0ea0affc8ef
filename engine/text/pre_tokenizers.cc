// SPDX-License-Identifier: Apache-2.0
//
// "pre_tokenizer" of a tokenizer.json.
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/json_text.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/text/json_fields.h"
#include "engine/text/word_splitter.h"

namespace mneme {
namespace {

using nlohmann::json;
using Step = TextNormalizer::Step;

constexpr size_t kMaxStages = 16;
constexpr char kWhere[] = "tokenizer.json: pre_tokenizer";

// Radford et al. 2019, as their encoder.py cuts text; also what ByteLevel does
// unless told otherwise.
constexpr char kGpt2Pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"
    "|\\s+(?!\\S)|\\s+";

// Reads components one after the other, as a Sequence runs them.
class Reader {
 public:
  Reader(TextNormalizer& normalizer, bool& byte_level)
      : normalizer_(normalizer), byte_level_(byte_level) {}

  absl::Status Read(const json& component);

  std::vector<std::unique_ptr<const WordSplitter::Stage>> stages;

 private:
  absl::Status ByteLevel(JsonFields& fields);
  absl::Status Metaspace(JsonFields& fields);
  absl::Status Split(JsonFields& fields);
  absl::Status Digits(JsonFields& fields);
  absl::Status Punctuation(JsonFields& fields);
  absl::Status AddPattern(std::string_view pattern);

  TextNormalizer& normalizer_;
  bool& byte_level_;
  bool any_ = false;        // a component came before
  bool metaspace_ = false;  // it was a Metaspace
};

absl::Status Reader::Read(const json& component) {
  JsonFields fields(component, kWhere);
  const std::string type = fields.Type();
  if (type == "Sequence") {
    const json& all = fields.List("pretokenizers");
    MNEME_RETURN_IF_ERROR(fields.Finish());
    for (const json& one : all) MNEME_RETURN_IF_ERROR(Read(one));
    return absl::OkStatus();
  }
  if (byte_level_ || metaspace_ || stages.size() >= kMaxStages) {
    return WrongComponent(
        absl::StrCat(kWhere, ": \"type\""),
        absl::StrCat("\"", type, "\" after ",
                     byte_level_  ? "ByteLevel"
                     : metaspace_ ? "Metaspace"
                                  : absl::StrCat(kMaxStages, " others")),
        byte_level_ || metaspace_ ? "that to be the last" : "fewer");
  }
  absl::Status read;
  if (type == "ByteLevel") {
    read = ByteLevel(fields);
  } else if (type == "Metaspace") {
    read = Metaspace(fields);
  } else if (type == "Split") {
    read = Split(fields);
  } else if (type == "Digits") {
    read = Digits(fields);
  } else if (type == "Punctuation") {
    read = Punctuation(fields);
  } else {
    return WrongComponent(
        absl::StrCat(kWhere, ": \"type\""), absl::StrCat("\"", type, "\""),
        "ByteLevel, Digits, Metaspace, Punctuation, Sequence or Split");
  }
  any_ = true;
  MNEME_RETURN_IF_ERROR(fields.Finish());
  return read;
}

absl::Status Reader::AddPattern(std::string_view pattern) {
  auto stage = MakePatternStage(pattern);
  if (!stage.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(kWhere, ": pattern ", ShowJson(std::string(pattern)), ": ",
                     std::string(stage.status().message())));
  }
  stages.push_back(*std::move(stage));
  return absl::OkStatus();
}

absl::Status Reader::ByteLevel(JsonFields& fields) {
  byte_level_ = true;
  fields.Ignore("trim_offsets");  // of offsets, which nobody asks for
  if (fields.Bool("add_prefix_space", true)) {
    if (any_) {
      fields.Wrong("add_prefix_space", true,
                   "false after another pre-tokenizer");
    }
    normalizer_.AddStep(
        {.kind = Step::Kind::kPrependUnlessThere, .content = " "});
  }
  return fields.Bool("use_regex", true) ? AddPattern(kGpt2Pattern)
                                        : absl::OkStatus();
}

absl::Status Reader::Metaspace(JsonFields& fields) {
  if (any_) {
    return WrongComponent(kWhere, "Metaspace after another pre-tokenizer",
                          "it alone");
  }
  metaspace_ = true;
  const char32_t mark = fields.Char("replacement");
  Step prefix{.kind = Step::Kind::kPrependUnlessThere};
  AppendUtf8(mark, prefix.content);
  normalizer_.AddStep({.kind = Step::Kind::kReplace,
                       .content = prefix.content,
                       .character = ' '});
  // Files of older versions say it so, and may say both.
  const bool add_prefix = fields.Bool("add_prefix_space", true);
  const std::string scheme = fields.StringOrNull("prepend_scheme")
                                 .value_or(add_prefix ? "always" : "never");
  fields.MustBe("str_rep", prefix.content);
  if (scheme == "first") prefix.kind = Step::Kind::kPrependToText;
  if (scheme == "always" || scheme == "first") {
    normalizer_.AddStep(std::move(prefix));
  } else if (scheme != "never") {
    fields.Wrong("prepend_scheme", scheme,
                 "\"always\", \"first\" or \"never\"");
  }
  if (fields.Bool("split", true)) {
    stages.push_back(MakeSeparatorStage(mark, Separator::kBeginsWord));
  }
  return absl::OkStatus();
}

// A pattern that matches `text` and nothing else.
std::string Literally(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    const bool letter = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                        (c >= 'A' && c <= 'Z') || (c & 0x80) != 0;
    const auto byte = static_cast<uint8_t>(c);
    pattern +=
        letter ? std::string(1, c) : absl::StrCat("\\x{", absl::Hex(byte), "}");
  }
  return pattern;
}

absl::Status Reader::Split(JsonFields& fields) {
  JsonFields pattern(fields.Object("pattern"),
                     absl::StrCat(kWhere, ": \"pattern\""));
  const absl::optional<std::string> regex = pattern.StringOrNull("Regex");
  const absl::optional<std::string> literal = pattern.StringOrNull("String");
  MNEME_RETURN_IF_ERROR(pattern.Finish());
  if (regex.has_value() == literal.has_value()) {
    return WrongComponent(absl::StrCat(kWhere, ": \"pattern\""),
                          "neither or both", "\"Regex\" or \"String\"");
  }
  const std::string behavior = fields.String("behavior");
  const bool invert = fields.Bool("invert", false);
  // Inverted, what matches stays, and the rest is to be removed. There is none
  // to the patterns that are written so, and no text may vanish.
  const bool isolated = behavior == "Isolated" && !invert;
  const bool kept = behavior == "Removed" && invert;
  const absl::optional<char32_t> mark =
      OnlyChar(literal.value_or(regex.value_or("")));
  if (literal.has_value() && mark.has_value() && !invert) {
    for (const auto& [name, separator] :
         {std::pair("Isolated", Separator::kAlone),
          std::pair("MergedWithPrevious", Separator::kEndsWord),
          std::pair("MergedWithNext", Separator::kBeginsWord),
          std::pair("Contiguous", Separator::kWithItsLike)}) {
      if (behavior != name) continue;
      stages.push_back(MakeSeparatorStage(*mark, separator));
      return absl::OkStatus();
    }
  }
  if (!isolated && !kept) {
    fields.Wrong("behavior", absl::StrCat(behavior, invert ? ", inverted" : ""),
                 "\"Isolated\", or \"Removed\" inverted; for a character also "
                 "\"MergedWithPrevious\", \"MergedWithNext\", \"Contiguous\"");
    return absl::OkStatus();
  }
  return AddPattern(regex.has_value() ? *regex : Literally(*literal));
}

absl::Status Reader::Digits(JsonFields& fields) {
  return AddPattern(fields.Bool("individual_digits", false) ? "\\p{N}"
                                                            : "\\p{N}+");
}

absl::Status Reader::Punctuation(JsonFields& fields) {
  const std::string behavior =
      fields.StringOrNull("behavior").value_or("Isolated");
  if (behavior != "Isolated" && behavior != "Contiguous") {
    fields.Wrong("behavior", behavior, "\"Isolated\" or \"Contiguous\"");
  }
  return AddPattern(
      absl::StrCat("[\\p{P}$+<=>\\^`|~]", behavior == "Contiguous" ? "+" : ""));
}

}  // namespace

absl::StatusOr<WordSplitter> WordSplitter::Parse(const json& pre_tokenizer,
                                                 TextNormalizer& normalizer,
                                                 bool& byte_level) {
  WordSplitter splitter;
  byte_level = false;
  if (pre_tokenizer.is_null()) return splitter;
  Reader reader(normalizer, byte_level);
  MNEME_RETURN_IF_ERROR(reader.Read(pre_tokenizer));
  splitter.stages_ = std::move(reader.stages);
  return splitter;
}

}  // namespace mneme
