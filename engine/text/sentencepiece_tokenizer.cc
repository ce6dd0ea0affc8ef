// SPDX-License-Identifier: Apache-2.0
#include "engine/text/sentencepiece_tokenizer.h"

#include <algorithm>
#include <array>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/text/bpe.h"
#include "engine/text/sentencepiece_model.h"

namespace mneme {
namespace {

using Type = SentencePieceModel::Type;

// Stands for a space inside of pieces.
constexpr char32_t kSpace = 0x2581;
constexpr std::string_view kSpaceBytes = "\xe2\x96\x81";

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>()(text);
  }
};

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(SentencePieceModel model, VocabularyOptions options);

  std::string_view kind() const override { return "sentencepiece"; }
  bool utf8() const override { return true; }
  int64_t EncodeFront(std::string_view text, TextPlace place, size_t enough,
                      std::vector<TextToken>& tokens) const override;
  std::string Decode(int32_t token) const override;
  std::string_view prefix() const override {
    return model_.add_dummy_prefix ? " " : "";
  }
  absl::optional<int32_t> bos() const override { return options_.bos; }
  absl::Span<const int32_t> eos() const override { return options_.eos; }
  absl::Span<const uint8_t> sayable() const override { return sayable_; }
  absl::optional<int32_t> ControlToken(std::string_view name) const override {
    for (size_t id = 0; id < model_.pieces.size(); ++id) {
      const SentencePieceModel::Piece& piece = model_.pieces[id];
      if (piece.type == Type::kControl && piece.text == name) {
        return static_cast<int32_t>(id);
      }
    }
    return absl::nullopt;
  }

 private:
  static uint64_t PairKey(char32_t left, char32_t right) {
    return uint64_t{left} << 32 | right;
  }
  void AddToTables(int32_t id);
  // Whether nothing merges across the place between two characters.
  bool Separates(char32_t left, char32_t right) const;
  // The end of the run that `text` begins with; nothing if what follows the
  // text decides.
  absl::optional<int64_t> RunEnd(std::string_view text, bool ends) const;
  void EncodeRun(std::string_view run, bool dummy_prefix,
                 std::vector<TextToken>& tokens) const;

  const SentencePieceModel model_;
  const VocabularyOptions options_;
  std::vector<uint8_t> sayable_;
  // Pieces that text can become; ids.
  std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>> ids_;
  std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>
      user_defined_;
  size_t longest_user_defined_ = 0;
  absl::flat_hash_set<uint64_t> pairs_;       // neighbours inside of pieces
  absl::flat_hash_set<char32_t> characters_;  // that are pieces
  std::array<int32_t, 256> byte_ids_{};
};

SentencePieceTokenizer::SentencePieceTokenizer(SentencePieceModel model,
                                               VocabularyOptions options)
    : model_(std::move(model)),
      options_(std::move(options)),
      sayable_(options_.vocab_size, 0) {
  for (size_t id = 0; id < model_.pieces.size(); ++id) {
    AddToTables(static_cast<int32_t>(id));
  }
  for (const int32_t token : options_.eos) sayable_[token] = 1;
}

void SentencePieceTokenizer::AddToTables(int32_t id) {
  const SentencePieceModel::Piece& piece = model_.pieces[id];
  if (piece.type == Type::kByte) {
    byte_ids_[*ByteOfPiece(piece.text)] = id;
    sayable_[id] = 1;
  }
  if (piece.type != Type::kNormal && piece.type != Type::kUserDefined) return;
  sayable_[id] = 1;
  ids_.emplace(piece.text, id);
  if (piece.type == Type::kUserDefined) {
    user_defined_.emplace(piece.text, id);
    longest_user_defined_ = std::max(longest_user_defined_, piece.text.size());
  }
  char32_t before = 0;
  for (size_t at = 0; at < piece.text.size();) {
    const Utf8Char c = FirstUtf8Char(std::string_view(piece.text).substr(at));
    if (at > 0) pairs_.insert(PairKey(before, c.code_point));
    if (c.bytes == static_cast<int64_t>(piece.text.size())) {
      characters_.insert(c.code_point);
    }
    before = c.code_point;
    at += c.bytes;
  }
}

bool SentencePieceTokenizer::Separates(char32_t left, char32_t right) const {
  if (pairs_.contains(PairKey(left, right))) return false;
  // Unknown tokens side by side are one.
  return model_.byte_fallback || characters_.contains(left) ||
         characters_.contains(right);
}

absl::optional<int64_t> SentencePieceTokenizer::RunEnd(std::string_view text,
                                                       bool ends) const {
  const auto size = static_cast<int64_t>(text.size());
  int64_t at = 0;
  char32_t before = 0;
  while (at < size) {
    const Utf8Char c = FirstUtf8Char(text.substr(at));
    if (c.kind != Utf8Char::Kind::kWhole) break;  // cut off
    const char32_t code_point = c.code_point == ' ' ? kSpace : c.code_point;
    if (at > 0 &&
        (Separates(before, code_point) || at + c.bytes > kMaxPendingBytes)) {
      return at;
    }
    before = code_point;
    at += c.bytes;
  }
  if (at == kMaxPendingBytes || (ends && at > 0)) return at;
  return absl::nullopt;
}

int64_t SentencePieceTokenizer::EncodeFront(
    std::string_view text, TextPlace place, size_t enough,
    std::vector<TextToken>& tokens) const {
  int64_t taken = 0;
  while (tokens.size() < enough) {
    const std::string_view rest = text.substr(taken);
    const absl::optional<int64_t> end = RunEnd(rest, place.ends);
    if (!end.has_value()) break;
    EncodeRun(rest.substr(0, *end),
              model_.add_dummy_prefix && taken == 0 &&
                  (place.begins || place.after_control),
              tokens);
    taken += *end;
  }
  return taken;
}

void SentencePieceTokenizer::EncodeRun(std::string_view run, bool dummy_prefix,
                                       std::vector<TextToken>& tokens) const {
  // The run as pieces spell it, and for each of its bytes where in `run` the
  // character begins that it belongs to; for the dummy prefix, 0.
  std::string spelled;
  std::vector<int32_t> origin;
  const auto spell = [&](std::string_view bytes, size_t at) {
    spelled += bytes;
    origin.resize(spelled.size(), static_cast<int32_t>(at));
  };
  if (dummy_prefix) spell(kSpaceBytes, 0);
  for (size_t at = 0; at < run.size();) {
    const auto bytes = static_cast<size_t>(FirstUtf8Char(run.substr(at)).bytes);
    spell(run[at] == ' ' ? kSpaceBytes : run.substr(at, bytes), at);
    at += bytes;
  }
  origin.push_back(static_cast<int32_t>(run.size()));

  const std::string_view text = spelled;
  std::vector<BpeSymbol> symbols;
  for (size_t at = 0; at < text.size();) {
    size_t bytes = 0;  // of the longest user-defined piece here
    for (size_t n = std::min(longest_user_defined_, text.size() - at); n > 0;
         --n) {
      if (user_defined_.find(text.substr(at, n)) == user_defined_.end()) {
        continue;
      }
      bytes = n;
      break;
    }
    const bool frozen = bytes > 0;
    if (!frozen) {
      bytes = static_cast<size_t>(FirstUtf8Char(text.substr(at)).bytes);
    }
    symbols.push_back(
        {static_cast<int32_t>(at), static_cast<int32_t>(bytes), frozen});
    at += bytes;
  }
  MergeSymbols(
      [&](int32_t begin, int32_t bytes) -> absl::optional<float> {
        const auto it = ids_.find(text.substr(begin, bytes));
        if (it == ids_.end()) return absl::nullopt;
        return model_.pieces[it->second].score;
      },
      symbols);

  bool after_unknown = false;
  for (const BpeSymbol& symbol : symbols) {
    const std::string_view piece = text.substr(symbol.begin, symbol.bytes);
    const int32_t bytes =
        origin[symbol.begin + symbol.bytes] - origin[symbol.begin];
    const auto it = ids_.find(piece);
    const bool unknown = it == ids_.end();
    if (!unknown) {
      tokens.push_back({it->second, bytes});
    } else if (model_.byte_fallback) {
      // A space that is no piece is three bytes for one, and a dummy prefix
      // for none: the first of them stand for what there is.
      for (size_t i = 0; i < piece.size(); ++i) {
        tokens.push_back({byte_ids_[static_cast<uint8_t>(piece[i])],
                          static_cast<int32_t>(i) < bytes ? 1 : 0});
      }
    } else if (after_unknown) {
      tokens.back().bytes += bytes;
    } else {
      tokens.push_back({model_.unknown, bytes});
    }
    after_unknown = unknown && !model_.byte_fallback;
  }
}

std::string SentencePieceTokenizer::Decode(int32_t token) const {
  if (token < 0 || token >= static_cast<int32_t>(model_.pieces.size())) {
    return "";
  }
  const SentencePieceModel::Piece& piece = model_.pieces[token];
  switch (piece.type) {
    case Type::kControl:
      return "";
    case Type::kUnknown:
      return model_.unknown_surface;
    case Type::kByte:
      return std::string(1, static_cast<char>(*ByteOfPiece(piece.text)));
    case Type::kNormal:
    case Type::kUserDefined:
      break;
  }
  std::string text;
  for (size_t at = 0; at < piece.text.size();) {
    if (piece.text.compare(at, kSpaceBytes.size(), kSpaceBytes) == 0) {
      text += ' ';
      at += kSpaceBytes.size();
    } else {
      text += piece.text[at++];
    }
  }
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeSentencePieceTokenizer(
    std::string_view file, const VocabularyOptions& options) {
  MNEME_ASSIGN_OR_RETURN(SentencePieceModel model,
                         ParseSentencePieceModel(file));
  const auto pieces = static_cast<int64_t>(model.pieces.size());
  if (pieces > options.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.model: ", pieces, " pieces, want at most ",
                     options.vocab_size, ", config.json's \"vocab_size\""));
  }
  return std::unique_ptr<const Tokenizer>(
      std::make_unique<SentencePieceTokenizer>(std::move(model), options));
}

}  // namespace mneme
