// SPDX-License-Identifier: Apache-2.0
//
// Every step takes a text with its origins to another. A Unicode normalization
// form changes characters together with those beside them; ICU says before
// which characters nothing ever reaches, and between two such places a text
// can be normalized, cut and left waiting on its own.
#include "engine/text/text_normalizer.h"

#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/text/json_fields.h"

namespace mneme {
namespace {

using nlohmann::json;
using Step = TextNormalizer::Step;

constexpr size_t kMaxSteps = 32;
constexpr size_t kMaxGrowth = 64;  // of a character
constexpr size_t kMaxContentBytes = 256;
constexpr char kWhere[] = "tokenizer.json: normalizer";

const UNormalizer2* FormOf(std::string_view type) {
  UErrorCode error = U_ZERO_ERROR;
  if (type == "NFC") return unorm2_getNFCInstance(&error);
  if (type == "NFD") return unorm2_getNFDInstance(&error);
  if (type == "NFKC") return unorm2_getNFKCInstance(&error);
  if (type == "NFKD") return unorm2_getNFKDInstance(&error);
  return nullptr;
}

// Takes a text apart and puts another together.
class Speller {
 public:
  explicit Speller(const SpelledText& from) : from_(from) {
    to_.text.reserve(from.text.size());
    to_.origin.reserve(from.origin.size());
    to_.cut.reserve(from.cut.size());
  }

  // Bytes [begin, end) as they are.
  void Keep(size_t begin, size_t end) {
    to_.text.append(from_.text, begin, end - begin);
    to_.origin.insert(to_.origin.end(), from_.origin.begin() + begin,
                      from_.origin.begin() + end);
    to_.cut.insert(to_.cut.end(), from_.cut.begin() + begin,
                   from_.cut.begin() + end);
  }
  // Likewise, if they can not be cut inside.
  void KeepWhole(size_t begin, size_t end) {
    Keep(begin, end);
    std::fill(to_.cut.end() - (end - begin - 1), to_.cut.end(), 0);
  }
  // `content` instead of what begins at `begin`.
  void Write(std::string_view content, size_t begin) {
    for (size_t i = 0; i < content.size(); ++i) {
      to_.text += content[i];
      to_.origin.push_back(from_.origin[begin]);
      to_.cut.push_back(i == 0 ? from_.cut[begin] : 0);
    }
  }
  // `end` is the end of what was taken of the text.
  SpelledText Finish(size_t end) {
    to_.origin.push_back(from_.origin[end]);
    to_.cut.push_back(from_.cut[end]);
    return std::move(to_);
  }

 private:
  const SpelledText& from_;
  SpelledText to_;
};

// What changes character by character.
template <typename Change>
SpelledText ChangeChars(const SpelledText& text, const Change& change) {
  Speller speller(text);
  const std::string_view left = text.text;
  for (size_t at = 0; at < left.size();) {
    const Utf8Char c = FirstUtf8Char(left.substr(at));
    const size_t end = at + c.bytes;
    std::string changed;
    if (change(c.code_point, changed)) {
      speller.Write(changed, at);
    } else {
      speller.Keep(at, end);
    }
    at = end;
  }
  return speller.Finish(left.size());
}

// As Rust's char::to_lowercase, whose only long result this is.
bool Lower(char32_t c, std::string& changed) {
  if (c == 0x130) {
    changed = "i\xcc\x87";
    return true;
  }
  const auto lower = static_cast<char32_t>(u_tolower(static_cast<UChar32>(c)));
  if (lower == c) return false;
  AppendUtf8(lower, changed);
  return true;
}

std::string Normalized(const UNormalizer2* form, std::string_view text) {
  // UTF-16 has no more units than UTF-8 has bytes; a form makes up to 18 of
  // one (https://unicode.org/faq/normalization.html).
  std::u16string wide(text.size(), 0);
  std::u16string changed(text.size() * 18, 0);
  UErrorCode error = U_ZERO_ERROR;
  int32_t length = 0;
  u_strFromUTF8(wide.data(), static_cast<int32_t>(wide.size()), &length,
                text.data(), static_cast<int32_t>(text.size()), &error);
  length = unorm2_normalize(form, wide.data(), length, changed.data(),
                            static_cast<int32_t>(changed.size()), &error);
  std::string out(static_cast<size_t>(length > 0 ? length : 0) * 3, '\0');
  u_strToUTF8(out.data(), static_cast<int32_t>(out.size()), &length,
              changed.data(), length, &error);
  if (U_FAILURE(error) || length < 0) return std::string(text);
  out.resize(length);
  return out;
}

SpelledText InForm(const UNormalizer2* form, const SpelledText& text,
                   bool open) {
  Speller speller(text);
  const std::string_view left = text.text;
  size_t begin = 0;
  size_t at = 0;
  const auto take = [&] {
    const std::string_view part = left.substr(begin, at - begin);
    const bool ascii = part.size() == 1;
    const std::string normal = ascii ? "" : Normalized(form, part);
    if (ascii || normal == part) {
      speller.KeepWhole(begin, at);
    } else {
      speller.Write(normal, begin);
    }
    begin = at;
  };
  while (at < left.size()) {
    const Utf8Char c = FirstUtf8Char(left.substr(at));
    if (at > begin && (c.code_point < 0x80 ||
                       unorm2_hasBoundaryBefore(
                           form, static_cast<UChar32>(c.code_point)) != 0)) {
      take();
    }
    at += c.bytes;
  }
  if (!open && at > begin) take();
  return speller.Finish(begin);
}

SpelledText WithPrefix(std::string_view prefix, SpelledText text) {
  text.text.insert(0, prefix);
  text.origin.insert(text.origin.begin(), prefix.size(), text.origin[0]);
  text.cut.insert(text.cut.begin(), prefix.size(), 0);
  return text;
}

SpelledText Apply(const Step& step, SpelledText text, SectionPlace place) {
  using Kind = Step::Kind;
  switch (step.kind) {
    case Kind::kReplace:
      return ChangeChars(text, [&](char32_t c, std::string& changed) {
        if (c == step.character) changed = step.content;
        return c == step.character;
      });
    case Kind::kLowercase:
      return ChangeChars(text, Lower);
    case Kind::kForm:
      return InForm(static_cast<const UNormalizer2*>(step.form), text,
                    place.open);
    case Kind::kPrepend:
    case Kind::kPrependUnlessThere:
    case Kind::kPrependToText:
      break;
  }
  const bool begins =
      step.kind == Kind::kPrependToText ? place.begins_text : place.begins;
  const bool there =
      step.kind != Kind::kPrepend &&
      text.text.compare(0, step.content.size(), step.content) == 0;
  if (!begins || there || text.text.empty()) return text;
  return WithPrefix(step.content, std::move(text));
}

}  // namespace

absl::Status TextNormalizer::AddSteps(const json& normalizer) {
  if (normalizer.is_null()) return absl::OkStatus();
  JsonFields fields(normalizer, kWhere);
  const std::string type = fields.Type();
  Step step;
  if (type == "Sequence") {
    const json& all = fields.List("normalizers");
    MNEME_RETURN_IF_ERROR(fields.Finish());
    for (const json& one : all) MNEME_RETURN_IF_ERROR(AddSteps(one));
    return absl::OkStatus();
  }
  if (FormOf(type) != nullptr) {
    step.kind = Step::Kind::kForm;
    step.form = FormOf(type);
  } else if (type == "Lowercase") {
    step.kind = Step::Kind::kLowercase;
  } else if (type == "Prepend") {
    step.kind = Step::Kind::kPrepend;
    step.content = fields.String("prepend");
  } else if (type == "Replace") {
    JsonFields pattern(fields.Object("pattern"),
                       absl::StrCat(kWhere, ": \"pattern\""));
    step.kind = Step::Kind::kReplace;
    step.character = pattern.Char("String");
    step.content = fields.String("content");
    MNEME_RETURN_IF_ERROR(pattern.Finish());
    if (step.content.empty()) {
      return WrongComponent(absl::StrCat(kWhere, ": \"content\""), "\"\"",
                            "a character or more: no text may vanish");
    }
  } else {
    return WrongComponent(absl::StrCat(kWhere, ": \"type\""),
                          absl::StrCat("\"", type, "\""),
                          "NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace "
                          "or Sequence");
  }
  MNEME_RETURN_IF_ERROR(fields.Finish());
  if (step.content.size() > kMaxContentBytes || steps_.size() == kMaxSteps) {
    return WrongComponent(
        kWhere,
        absl::StrCat(step.content.size(), " bytes as step ", steps_.size()),
        absl::StrCat("at most ", kMaxContentBytes, " and ", kMaxSteps,
                     " steps"));
  }
  if (step.kind == Step::Kind::kReplace) {
    growth_ *= step.content.size();
    if (growth_ > kMaxGrowth) {
      return WrongComponent(
          kWhere, absl::StrCat("replacements by ", growth_, " bytes in turn"),
          absl::StrCat("at most ", kMaxGrowth));
    }
  }
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

bool TextNormalizer::prepends() const {
  for (const Step& step : steps_) {
    if (step.kind == Step::Kind::kPrepend ||
        step.kind == Step::Kind::kPrependUnlessThere) {
      return true;
    }
  }
  return false;
}

SpelledText TextNormalizer::Spell(std::string_view text,
                                  SectionPlace place) const {
  SpelledText spelled;
  spelled.text = std::string(text);
  spelled.origin.resize(text.size() + 1);
  spelled.cut.resize(text.size() + 1, 1);
  for (size_t i = 0; i <= text.size(); ++i) {
    spelled.origin[i] = static_cast<int32_t>(i);
    if (i < text.size() && (text[i] & 0xc0) == 0x80) spelled.cut[i] = 0;
  }
  for (const Step& step : steps_) {
    spelled = Apply(step, std::move(spelled), place);
  }
  return spelled;
}

}  // namespace mneme
