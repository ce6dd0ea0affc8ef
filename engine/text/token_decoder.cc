// SPDX-License-Identifier: Apache-2.0
#include "engine/text/token_decoder.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/json_fields.h"
#include "engine/text/sentencepiece_model.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr size_t kMaxSteps = 32;
constexpr size_t kMaxGrowth = 64;  // of a character
constexpr char kWhere[] = "tokenizer.json: decoder";

std::string Replaced(std::string_view text, std::string_view from,
                     std::string_view to) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (text.substr(at, from.size()) == from) {
      out += to;
      at += from.size();
    } else {
      out += text[at++];
    }
  }
  return out;
}

}  // namespace

absl::StatusOr<TokenDecoder> TokenDecoder::Parse(const json& decoder) {
  TokenDecoder out;
  if (decoder.is_null()) {
    return WrongComponent(kWhere, "none, which puts spaces between tokens",
                          "one");
  }
  MNEME_RETURN_IF_ERROR(out.Add(decoder));
  return out;
}

absl::Status TokenDecoder::Add(const json& decoder) {
  JsonFields fields(decoder, kWhere);
  const std::string type = fields.Type();
  using Kind = Step::Kind;
  if (type == "Sequence") {
    const json& all = fields.List("decoders");
    MNEME_RETURN_IF_ERROR(fields.Finish());
    for (const json& one : all) MNEME_RETURN_IF_ERROR(Add(one));
    return absl::OkStatus();
  }
  if (steps_.size() == kMaxSteps) {
    return WrongComponent(kWhere, "more components",
                          absl::StrCat("at most ", kMaxSteps));
  }
  if (type == "ByteLevel") {
    for (const char* key : {"add_prefix_space", "trim_offsets", "use_regex"}) {
      fields.Ignore(key);  // of the pre-tokenizer that has the same form
    }
    steps_.push_back({.kind = Kind::kBytes});
  } else if (type == "ByteFallback") {
    steps_.push_back({.kind = Kind::kByteNames});
  } else if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Replace") {
    JsonFields pattern(fields.Object("pattern"),
                       absl::StrCat(kWhere, ": \"pattern\""));
    Step step{.from = pattern.String("String"), .to = fields.String("content")};
    MNEME_RETURN_IF_ERROR(pattern.Finish());
    if (step.from.empty() || (fused_ && !OnlyChar(step.from).has_value())) {
      fields.Wrong("pattern", step.from, "a character, or several before Fuse");
    }
    growth_ *= std::max<size_t>(step.to.size(), 1);
    if (growth_ > kMaxGrowth) {
      return WrongComponent(
          kWhere, absl::StrCat("replacements by ", growth_, " bytes in turn"),
          absl::StrCat("at most ", kMaxGrowth));
    }
    steps_.push_back(std::move(step));
  } else if (type == "Metaspace") {
    Step step{.to = " "};
    AppendUtf8(fields.Char("replacement"), step.from);
    steps_.push_back(std::move(step));
    const bool add_prefix = fields.Bool("add_prefix_space", true);
    strips_space_ = fields.StringOrNull("prepend_scheme")
                        .value_or(add_prefix ? "always" : "never") != "never";
    fields.Ignore("split");
    fields.Ignore("str_rep");
  } else if (type == "Strip") {
    fields.MustBe("content", " ");
    fields.MustBe("stop", 0);
    const int64_t start = fields.Int("start", 0, 1);
    if (start == 1 && !fused_) fields.Wrong("start", 1, "0 before Fuse");
    strips_space_ = strips_space_ || start == 1;
  } else {
    return WrongComponent(
        absl::StrCat(kWhere, ": \"type\""), absl::StrCat("\"", type, "\""),
        "ByteFallback, ByteLevel, Fuse, Metaspace, Replace, Sequence or Strip");
  }
  return fields.Finish();
}

std::string TokenDecoder::Decode(std::string_view name) const {
  std::string text(name);
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Step::Kind::kReplace:
        text = Replaced(text, step.from, step.to);
        break;
      case Step::Kind::kBytes: {
        absl::optional<std::string> bytes = BytesOfSpelling(text);
        if (bytes.has_value()) text = *std::move(bytes);
        break;
      }
      case Step::Kind::kByteNames: {
        const absl::optional<uint8_t> byte = ByteOfPiece(text);
        // A byte that is no character of its own is the last form of a text.
        if (byte.has_value()) return std::string(1, static_cast<char>(*byte));
        break;
      }
    }
  }
  return text;
}

}  // namespace mneme
