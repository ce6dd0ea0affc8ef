// SPDX-License-Identifier: Apache-2.0
#include "engine/text/word_tokenizer.h"

#include <unicode/uchar.h>
#include <unicode/ustring.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"

namespace mneme {
namespace {

// As Python's str.split has it.
bool IsSpace(char32_t c) {
  return (c >= 0x1c && c <= 0x1f) ||
         u_isUWhiteSpace(static_cast<UChar32>(c)) != 0;
}

// As Python's str.lower.
std::string Lower(std::string_view text) {
  std::u16string wide(text.size(), 0);
  std::u16string lower(text.size() * 3, 0);
  UErrorCode error = U_ZERO_ERROR;
  int32_t length = 0;
  u_strFromUTF8(wide.data(), static_cast<int32_t>(wide.size()), &length,
                text.data(), static_cast<int32_t>(text.size()), &error);
  length = u_strToLower(lower.data(), static_cast<int32_t>(lower.size()),
                        wide.data(), length, /*locale=*/"", &error);
  std::string out(static_cast<size_t>(length > 0 ? length : 0) * 3, '\0');
  u_strToUTF8(out.data(), static_cast<int32_t>(out.size()), &length,
              lower.data(), length, &error);
  if (U_FAILURE(error) || length < 0) return std::string(text);
  out.resize(length);
  return out;
}

struct Vocabulary {
  std::vector<std::string> words;  // by id
  absl::flat_hash_map<std::string, int32_t> ids;
  int32_t line_end = 0;
  int32_t unknown = 0;
};

class WordTokenizer final : public Tokenizer {
 public:
  WordTokenizer(Vocabulary vocabulary, VocabularyOptions options)
      : vocabulary_(std::move(vocabulary)),
        options_(std::move(options)),
        sayable_(options_.vocab_size, 0) {
    std::fill_n(sayable_.begin(), vocabulary_.words.size(), 1);
    sayable_[vocabulary_.unknown] = 0;
    for (const int32_t token : options_.eos) sayable_[token] = 1;
  }

  std::string_view kind() const override { return "words"; }
  bool utf8() const override { return true; }
  std::string_view prefix() const override { return " "; }

  int64_t EncodeFront(std::string_view text, TextPlace place, size_t enough,
                      std::vector<TextToken>& tokens) const override {
    size_t taken = 0;
    while (tokens.size() < enough) {
      const TextToken token = First(text.substr(taken), place.ends);
      if (token.bytes == 0) break;
      tokens.push_back(token);
      taken += token.bytes;
    }
    return static_cast<int64_t>(taken);
  }

  std::string Decode(int32_t token) const override {
    if (token < 0 || static_cast<size_t>(token) >= vocabulary_.words.size()) {
      return "";
    }
    if (token == vocabulary_.line_end) return "\n";
    return absl::StrCat(" ", vocabulary_.words[token]);
  }

  absl::optional<int32_t> bos() const override { return options_.bos; }
  absl::Span<const int32_t> eos() const override { return options_.eos; }
  absl::Span<const uint8_t> sayable() const override { return sayable_; }

 private:
  // The first word of `text` with the white space before it, or the end of its
  // first line; of no bytes if what follows decides.
  TextToken First(std::string_view text, bool ends) const {
    constexpr auto kWindow = static_cast<size_t>(kMaxPendingBytes);
    const std::string_view window = text.substr(0, kWindow);
    const std::string_view front =
        window.substr(0, WholeUtf8Chars(window).whole_bytes);
    size_t begin = 0;
    bool in_word = false;
    for (size_t at = 0; at < front.size();) {
      const Utf8Char c = FirstUtf8Char(front.substr(at));
      const bool space = IsSpace(c.code_point);
      if (in_word && space) return Word(front, begin, at);
      if (c.code_point == '\n') {
        return {vocabulary_.line_end, static_cast<int32_t>(at + 1)};
      }
      if (!in_word && !space) {
        begin = at;
        in_word = true;
      }
      at += c.bytes;
    }
    const bool full = window.size() == kWindow;
    if (!full && !(ends && in_word)) return {};
    return Word(front, in_word ? begin : front.size(), front.size());
  }
  TextToken Word(std::string_view text, size_t begin, size_t end) const {
    const std::string_view spelled = text.substr(begin, end - begin);
    const std::string word =
        options_.lower_case ? Lower(spelled) : std::string(spelled);
    const auto it = vocabulary_.ids.find(word);
    const bool known =
        it != vocabulary_.ids.end() && it->second != vocabulary_.line_end;
    return {known ? it->second : vocabulary_.unknown,
            static_cast<int32_t>(end)};
  }

  const Vocabulary vocabulary_;
  const VocabularyOptions options_;
  std::vector<uint8_t> sayable_;
};

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("vocab.txt: ", std::string(what)));
}

absl::StatusOr<std::string> WordOfLine(std::string_view line, size_t number) {
  size_t begin = 0;
  size_t at = 0;
  bool in_word = false;
  while (at < line.size()) {
    const Utf8Char c = FirstUtf8Char(line.substr(at));
    if (c.kind != Utf8Char::Kind::kWhole) {
      return Malformed(absl::StrCat(
          "line ", number, " is \"",
          absl::CHexEscape(std::string(line.substr(0, 40))), "\", want UTF-8"));
    }
    const bool space = IsSpace(c.code_point);
    if (in_word && space) break;
    if (!in_word && !space) {
      begin = at;
      in_word = true;
    }
    at += c.bytes;
  }
  if (!in_word) {
    return Malformed(absl::StrCat("line ", number, " is empty, want a word"));
  }
  return std::string(line.substr(begin, at - begin));
}

absl::StatusOr<int32_t> IdOf(const Vocabulary& vocabulary,
                             std::initializer_list<const char*> names) {
  std::string wanted;
  for (const char* name : names) {
    const auto it = vocabulary.ids.find(name);
    if (it != vocabulary.ids.end()) return it->second;
    absl::StrAppend(&wanted, wanted.empty() ? "" : " or ", name);
  }
  return Malformed(absl::StrCat(vocabulary.words.size(),
                                " words without special ones, want ", wanted,
                                " on a line"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeWordTokenizer(
    std::string_view file, const VocabularyOptions& options) {
  Vocabulary vocabulary;
  while (!file.empty()) {
    const size_t end = std::min(file.find('\n'), file.size());
    const size_t number = vocabulary.words.size() + 1;
    MNEME_ASSIGN_OR_RETURN(std::string word,
                           WordOfLine(file.substr(0, end), number));
    file.remove_prefix(std::min(end + 1, file.size()));
    const auto id = static_cast<int32_t>(vocabulary.words.size());
    if (id >= options.vocab_size) {
      return Malformed(absl::StrCat("more than ", options.vocab_size,
                                    " lines, want at most as many as "
                                    "config.json's \"vocab_size\""));
    }
    const auto [it, fresh] = vocabulary.ids.emplace(word, id);
    if (!fresh) {
      return Malformed(absl::StrCat("line ", number, " is \"", word,
                                    "\", as is line ", it->second + 1,
                                    ", want every word once"));
    }
    vocabulary.words.push_back(std::move(word));
  }
  MNEME_ASSIGN_OR_RETURN(vocabulary.line_end, IdOf(vocabulary, {"<eos>"}));
  MNEME_ASSIGN_OR_RETURN(vocabulary.unknown,
                         IdOf(vocabulary, {"<unk>", "<UNK>"}));
  return std::unique_ptr<const Tokenizer>(
      std::make_unique<WordTokenizer>(std::move(vocabulary), options));
}

}  // namespace mneme
