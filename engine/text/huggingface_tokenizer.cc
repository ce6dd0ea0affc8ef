// SPDX-License-Identifier: Apache-2.0
//
// A text is taken in sections, each up to an added token:
//
//     added tokens | section                     | added token | section ...
//                    respelled (TextNormalizer)
//                    word|word|word|word|         (WordSplitter)
//                    tok tok tok ...              (BytePairModel)
//
// and given out up to a cut: a place behind a word from which on the rest
// comes out the same although what stands before it is forgotten. Whether a
// place is one depends only on the text from the last cut on, up to
// kMaxPendingBytes of it, so that it is the same places however the text comes
// in.
#include "engine/text/huggingface_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/json_text.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/text/added_tokens.h"
#include "engine/text/byte_pair_model.h"
#include "engine/text/json_fields.h"
#include "engine/text/post_processors.h"
#include "engine/text/text_normalizer.h"
#include "engine/text/token_decoder.h"
#include "engine/text/word_splitter.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr char kFile[] = "tokenizer.json";
// A text is looked at so far first: most often that gives tokens enough.
constexpr size_t kFirstLook = 1 << 10;

// What a tokenizer.json says, component by component.
struct Components {
  TextNormalizer normalizer;
  AddedTokens added;
  WordSplitter splitter;
  BytePairModel model;
  TokenDecoder decoder;
  absl::optional<int32_t> bos;
};

class HuggingFaceTokenizer final : public Tokenizer {
 public:
  HuggingFaceTokenizer(Components components, VocabularyOptions options);

  std::string_view kind() const override { return "huggingface"; }
  bool utf8() const override { return true; }
  int64_t EncodeFront(std::string_view text, TextPlace place, size_t enough,
                      std::vector<TextToken>& tokens) const override;
  std::string Decode(int32_t token) const override {
    const bool known =
        token >= 0 && static_cast<size_t>(token) < decoded_.size();
    return known ? decoded_[token] : "";
  }
  std::string_view prefix() const override {
    return components_.decoder.prefix();
  }
  absl::optional<int32_t> bos() const override { return components_.bos; }
  absl::Span<const int32_t> eos() const override { return options_.eos; }
  absl::Span<const uint8_t> sayable() const override { return sayable_; }
  absl::optional<int32_t> ControlToken(std::string_view name) const override {
    for (const AddedTokens::Token& token : components_.added.tokens()) {
      if (token.special && token.content == name) return token.id;
    }
    return absl::nullopt;
  }

 private:
  // Tokens that are made, and how many of them stand before a cut.
  struct Made {
    std::vector<TextToken>& tokens;
    const size_t enough;
    size_t bytes = 0;  // before the last cut
    size_t count = 0;  // tokens before it

    void Cut(size_t at) {
      bytes = at;
      count = tokens.size();
    }
    bool Enough() const { return count >= enough; }
  };

  // Makes tokens of `text`, which begins at `place`, up to a cut, or, if it is
  // not open, to its end. Returns the bytes before that.
  size_t Take(std::string_view text, SectionPlace place, size_t enough,
              std::vector<TextToken>& tokens) const;
  // The same of a section that begins at `at`. Returns whether all of it was
  // taken.
  bool TakeSection(std::string_view section, SectionPlace place, size_t at,
                   Made& made) const;
  // The end of the part of `text`, spelled, that begins at `begin` and can be
  // encoded apart; that of the word at the latest, or nothing if that is open.
  absl::optional<size_t> PartEnd(const SpelledText& spelled, const Word& word,
                                 size_t begin) const;

  const Components components_;
  const VocabularyOptions options_;
  std::vector<std::string> decoded_;
  std::vector<uint8_t> sayable_;
};

HuggingFaceTokenizer::HuggingFaceTokenizer(Components components,
                                           VocabularyOptions options)
    : components_(std::move(components)),
      options_(std::move(options)),
      decoded_(options_.vocab_size),
      sayable_(options_.vocab_size, 0) {
  const std::vector<std::string>& names = components_.model.names();
  for (size_t id = 0; id < names.size(); ++id) {
    if (names[id].empty()) continue;
    decoded_[id] = components_.decoder.Decode(names[id]);
    sayable_[id] = 1;
  }
  for (const AddedTokens::Token& token : components_.added.tokens()) {
    decoded_[token.id] =
        token.special ? "" : components_.decoder.Decode(token.content);
    sayable_[token.id] = token.special ? 0 : 1;
  }
  if (components_.model.unknown().has_value()) {
    sayable_[*components_.model.unknown()] = 0;
  }
  for (const int32_t token : options_.eos) sayable_[token] = 1;
}

int64_t HuggingFaceTokenizer::EncodeFront(
    std::string_view text, TextPlace place, size_t enough,
    std::vector<TextToken>& tokens) const {
  // A character that the end cuts off is not looked at.
  constexpr auto kWindow = static_cast<size_t>(kMaxPendingBytes);
  const auto whole_of = [](std::string_view front) {
    return static_cast<size_t>(WholeUtf8Chars(front).whole_bytes);
  };
  size_t taken = 0;
  while (tokens.size() < enough) {
    const std::string_view left = text.substr(taken);
    const bool first = taken == 0;
    SectionPlace section{
        .begins = first && (place.begins || place.after_control),
        .begins_text = first && place.begins};
    size_t bytes = 0;
    for (const size_t look : {kFirstLook, kWindow}) {
      const std::string_view front = left.substr(0, look);
      const bool all = left.size() < kWindow && front.size() == left.size();
      section.open = !(all && place.ends);
      bytes = Take(front.substr(0, whole_of(front)), section, enough, tokens);
      if (bytes > 0 || all) break;
    }
    if (bytes == 0 && left.size() >= kWindow) {
      const std::string_view front = left.substr(0, kWindow);
      section.open = false;
      bytes = Take(front.substr(0, whole_of(front)), section, SIZE_MAX, tokens);
    }
    if (bytes == 0) break;
    taken += bytes;
  }
  return static_cast<int64_t>(taken);
}

size_t HuggingFaceTokenizer::Take(std::string_view text, SectionPlace place,
                                  size_t enough,
                                  std::vector<TextToken>& tokens) const {
  Made made{.tokens = tokens, .enough = enough, .count = tokens.size()};
  const bool prepends = components_.normalizer.prepends();
  const bool open = place.open;
  size_t at = 0;
  while (at < text.size() && !made.Enough()) {
    const AddedTokens::Found found =
        components_.added.First(text.substr(at), open);
    place.open = open && !found.id.has_value();
    if (!TakeSection(text.substr(at, found.begin), place, at, made)) break;
    at += found.begin;
    if (!found.id.has_value()) break;
    // The rest begins with an added token, whatever came before it.
    if (at > 0) made.Cut(at);
    made.tokens.push_back({*found.id, static_cast<int32_t>(found.bytes)});
    at += found.bytes;
    place = {.begins = true};
    if (!prepends || (at == text.size() && !open)) made.Cut(at);
  }
  tokens.resize(made.count);
  return made.bytes;
}

bool HuggingFaceTokenizer::TakeSection(std::string_view section,
                                       SectionPlace place, size_t at,
                                       Made& made) const {
  if (section.empty()) return true;
  const SpelledText spelled = components_.normalizer.Spell(section, place);
  const std::string_view text = spelled.text;
  int32_t charged = 0;  // bytes of the section that tokens stand for
  for (const Word& word : components_.splitter.Split(text, place.open)) {
    for (size_t begin = word.begin; begin < word.end;) {
      const absl::optional<size_t> end = PartEnd(spelled, word, begin);
      if (!end.has_value()) return false;
      size_t reached = begin;
      for (const RankedSymbol& symbol :
           components_.model.Encode(text.substr(begin, *end - begin))) {
        reached += symbol.bytes;
        const int32_t origin = spelled.origin[reached];
        made.tokens.push_back({symbol.id, origin - charged});
        charged = origin;
      }
      begin = *end;
      const bool cut = begin < word.end || word.cut_after;
      if (cut && spelled.cut[begin] != 0 && charged > 0) {
        made.Cut(at + charged);
        if (made.Enough()) break;
      }
    }
    if (made.Enough()) break;
  }
  return !place.open && charged == static_cast<int32_t>(section.size());
}

absl::optional<size_t> HuggingFaceTokenizer::PartEnd(const SpelledText& spelled,
                                                     const Word& word,
                                                     size_t begin) const {
  const BytePairModel& model = components_.model;
  const std::string_view text = spelled.text;
  if (word.cuttable) {
    size_t left = begin;
    size_t at = begin + model.CharBytes(text.substr(begin));
    while (at < word.end) {
      const size_t bytes = model.CharBytes(text.substr(at));
      if (model.Separates(text.substr(left, at - left),
                          text.substr(at, bytes))) {
        return at;
      }
      left = at;
      at += bytes;
    }
  }
  if (word.open) return absl::nullopt;
  return word.end;
}

absl::StatusOr<Components> ParseComponents(const json& object,
                                           int64_t vocab_size) {
  JsonFields fields(object, kFile);
  for (const char* key : {"version", "truncation", "padding"}) {
    fields.Ignore(key);
  }
  const json& added = fields.List("added_tokens");
  const json& normalizer = fields.Object("normalizer");
  const json& pre_tokenizer = fields.Object("pre_tokenizer");
  const json& post_processor = fields.Object("post_processor");
  const json& decoder = fields.Object("decoder");
  const json& model = fields.Object("model");
  MNEME_RETURN_IF_ERROR(fields.Finish());

  Components out;
  MNEME_RETURN_IF_ERROR(out.normalizer.AddSteps(normalizer));
  MNEME_ASSIGN_OR_RETURN(
      out.added,
      AddedTokens::Parse(added, vocab_size, !out.normalizer.empty()));
  BytePairModel::Spelling spelling;
  MNEME_ASSIGN_OR_RETURN(
      out.splitter,
      WordSplitter::Parse(pre_tokenizer, out.normalizer, spelling.bytes));
  spelling.local = out.splitter.local();
  for (const AddedTokens::Token& token : out.added.tokens()) {
    if (token.special) spelling.never.insert(token.id);
  }
  MNEME_ASSIGN_OR_RETURN(out.model,
                         BytePairModel::Parse(model, vocab_size, spelling));
  MNEME_ASSIGN_OR_RETURN(out.bos, TokenBeforeText(post_processor, vocab_size));
  MNEME_ASSIGN_OR_RETURN(out.decoder, TokenDecoder::Parse(decoder));
  return out;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeHuggingFaceTokenizer(
    std::string_view file, const VocabularyOptions& options) {
  MNEME_ASSIGN_OR_RETURN(const json object, ParseJsonObject(file, kFile));
  MNEME_ASSIGN_OR_RETURN(Components components,
                         ParseComponents(object, options.vocab_size));
  return std::unique_ptr<const Tokenizer>(
      std::make_unique<HuggingFaceTokenizer>(std::move(components), options));
}

}  // namespace mneme
