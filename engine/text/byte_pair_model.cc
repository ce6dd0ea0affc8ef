// SPDX-License-Identifier: Apache-2.0
#include "engine/text/byte_pair_model.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/json_text.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/json_fields.h"

namespace mneme {
namespace {

using nlohmann::json;

constexpr char kWhere[] = "tokenizer.json: model";
constexpr size_t kMaxMerges = 1 << 22;

absl::Status Missing(const std::string& token, std::string_view why) {
  return WrongComponent(absl::StrCat(kWhere, ": \"vocab\""),
                        absl::StrCat("no ", ShowJson(token)),
                        absl::StrCat("it there: ", std::string(why)));
}

std::string ByteName(int byte) { return absl::StrFormat("<0x%02X>", byte); }

}  // namespace

absl::StatusOr<BytePairModel> BytePairModel::Parse(const json& model,
                                                   int64_t vocab_size,
                                                   const Spelling& spelling) {
  JsonFields fields(model, kWhere);
  const std::string type = fields.Type();
  const json& vocabulary = fields.Object("vocab");
  const json& merges = fields.List("merges");
  if (type != "BPE" && !(type.empty() && merges.size() > 0)) {
    return WrongComponent(absl::StrCat(kWhere, ": \"type\""),
                          absl::StrCat("\"", type, "\""), "\"BPE\"");
  }
  BytePairModel out;
  fields.MustBe("dropout", 0.0);
  fields.MustBe("continuing_subword_prefix", "");
  fields.MustBe("end_of_word_suffix", "");
  fields.Ignore("cache_capacity");
  out.fuse_unknown_ = fields.Bool("fuse_unk", false);
  out.byte_fallback_ = fields.Bool("byte_fallback", false);
  out.ignore_merges_ = fields.Bool("ignore_merges", false);
  const absl::optional<std::string> unknown = fields.StringOrNull("unk_token");
  MNEME_RETURN_IF_ERROR(fields.Finish());
  if (!vocabulary.is_object()) {
    return WrongComponent(absl::StrCat(kWhere, ": \"vocab\""), "none", "one");
  }

  Ids ids;
  MNEME_RETURN_IF_ERROR(out.ReadNames(vocabulary, vocab_size, ids));
  if (unknown.has_value()) {
    const auto it = ids.find(*unknown);
    if (it == ids.end()) return Missing(*unknown, "it is the \"unk_token\"");
    out.unknown_ = it->second;
  }
  MNEME_RETURN_IF_ERROR(out.ReadMerges(merges, spelling, ids));
  MNEME_RETURN_IF_ERROR(out.MakeTables(spelling, ids));
  return out;
}

absl::Status BytePairModel::ReadNames(const json& vocabulary,
                                      int64_t vocab_size, Ids& ids) {
  ids.reserve(vocabulary.size());
  for (const auto& [name, id] : vocabulary.items()) {
    const bool whole = id.is_number_unsigned();
    if (!whole || id.get<uint64_t>() >= static_cast<uint64_t>(vocab_size)) {
      return WrongComponent(
          absl::StrCat(kWhere, ": \"vocab\": ", ShowJson(name)), ShowJson(id),
          absl::StrCat("an id below ", vocab_size,
                       ", config.json's \"vocab_size\""));
    }
    const auto token = id.get<int32_t>();
    if (names_.size() <= static_cast<size_t>(token)) names_.resize(token + 1);
    if (name.empty() || !names_[token].empty()) {
      return WrongComponent(
          absl::StrCat(kWhere, ": \"vocab\": ", ShowJson(name)),
          name.empty()
              ? "an empty token"
              : absl::StrCat("id ", token, " of ", ShowJson(names_[token])),
          "a token with an id of its own");
    }
    names_[token] = name;
    ids.emplace(name, token);
  }
  return absl::OkStatus();
}

absl::Status BytePairModel::ReadMerges(const json& merges,
                                       const Spelling& spelling,
                                       const Ids& ids) {
  if (merges.size() > kMaxMerges) {
    return WrongComponent(absl::StrCat(kWhere, ": \"merges\""),
                          absl::StrCat(merges.size()),
                          absl::StrCat("at most ", kMaxMerges));
  }
  merges_.reserve(merges.size());
  int32_t rank = 0;
  for (const json& merge : merges) {
    MNEME_RETURN_IF_ERROR(ReadMerge(merge, spelling, ids, rank));
    ++rank;
  }
  return absl::OkStatus();
}

// "a b", or ["a", "b"] as newer files have it.
absl::Status BytePairModel::ReadMerge(const json& merge,
                                      const Spelling& spelling, const Ids& ids,
                                      int32_t rank) {
  std::string left;
  std::string right;
  if (merge.is_string()) {
    const auto text = merge.get<std::string>();
    const size_t space = text.find(' ');
    if (space != text.npos && text.find(' ', space + 1) == text.npos) {
      left = text.substr(0, space);
      right = text.substr(space + 1);
    }
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
             merge[1].is_string()) {
    left = merge[0].get<std::string>();
    right = merge[1].get<std::string>();
  }
  if (left.empty() || right.empty()) {
    return WrongComponent(absl::StrCat(kWhere, ": merge ", rank),
                          ShowJson(merge), "two tokens");
  }
  RankedMerge made{.rank = rank};
  int32_t pair[2] = {};
  int32_t* const wanted[] = {&pair[0], &pair[1], &made.id};
  const std::string names[] = {left, right, left + right};
  for (int i = 0; i < 3; ++i) {
    const auto it = ids.find(names[i]);
    if (it == ids.end()) {
      return Missing(names[i], absl::StrCat("merge ", rank, " names it"));
    }
    *wanted[i] = it->second;
  }
  // What text must not become is not merged from it either.
  if (spelling.never.contains(made.id)) return absl::OkStatus();
  merges_.insert_or_assign(PairKey(pair[0], pair[1]), made);
  return absl::OkStatus();
}

absl::Status BytePairModel::MakeTables(const Spelling& spelling,
                                       const Ids& ids) {
  spells_bytes_ = spelling.bytes;
  // What a word is as a whole goes before what it merges from, which differs
  // for a part of it.
  local_ = spelling.local && !ignore_merges_;
  for (const auto& [name, id] : ids) {
    std::string spelled = name;
    if (spells_bytes_) {
      const absl::optional<std::string> bytes = BytesOfSpelling(name);
      if (!bytes.has_value()) continue;  // no text is spelled so
      spelled = *bytes;
    }
    if (spelling.never.contains(id)) continue;
    if (CharBytes(spelled) == spelled.size()) chars_[CharOf(spelled)] = id;
    if (ignore_merges_) words_[spelled] = id;
    if (local_) NotePairs(spelled);
  }
  if (byte_fallback_) {
    for (int byte = 0; byte < 256; ++byte) {
      const auto it = ids.find(ByteName(byte));
      if (it == ids.end()) return Missing(ByteName(byte), "\"byte_fallback\"");
      byte_ids_[byte] = it->second;
    }
  } else if (!unknown_.has_value() &&
             !(spells_bytes_ && chars_.size() == 256)) {
    return WrongComponent(
        kWhere, "characters that no token stands for",
        "\"unk_token\", \"byte_fallback\", or ByteLevel and all its 256");
  }
  return absl::OkStatus();
}

void BytePairModel::NotePairs(std::string_view token) {
  size_t before = 0;
  for (size_t at = 0; at < token.size();) {
    const size_t bytes = CharBytes(token.substr(at));
    if (at > 0) {
      pairs_.insert(PairKey(
          static_cast<int32_t>(CharOf(token.substr(before, at - before))),
          static_cast<int32_t>(CharOf(token.substr(at, bytes)))));
    }
    before = at;
    at += bytes;
  }
}

size_t BytePairModel::CharBytes(std::string_view text) const {
  return spells_bytes_ ? 1 : static_cast<size_t>(FirstUtf8Char(text).bytes);
}

char32_t BytePairModel::CharOf(std::string_view bytes) {
  return bytes.size() == 1 ? static_cast<uint8_t>(bytes[0])
                           : FirstUtf8Char(bytes).code_point;
}

bool BytePairModel::Separates(std::string_view left,
                              std::string_view right) const {
  if (!local_) return false;
  const char32_t l = CharOf(left);
  const char32_t r = CharOf(right);
  if (pairs_.contains(
          PairKey(static_cast<int32_t>(l), static_cast<int32_t>(r)))) {
    return false;
  }
  // Unknown tokens side by side may be one.
  return byte_fallback_ || !fuse_unknown_ || chars_.contains(l) ||
         chars_.contains(r);
}

const RankedMerge* BytePairModel::MergeOf(int32_t left, int32_t right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

std::vector<RankedSymbol> BytePairModel::Encode(std::string_view word) const {
  std::vector<RankedSymbol> symbols;
  if (ignore_merges_) {
    const auto it = words_.find(absl::string_view(word.data(), word.size()));
    if (it != words_.end()) {
      return {{it->second, static_cast<int32_t>(word.size())}};
    }
  }
  bool after_unknown = false;
  for (size_t at = 0; at < word.size();) {
    const size_t bytes = CharBytes(word.substr(at));
    const std::string_view c = word.substr(at, bytes);
    const auto it = chars_.find(CharOf(c));
    const bool unknown = it == chars_.end() && !byte_fallback_;
    if (it != chars_.end()) {
      symbols.push_back({it->second, static_cast<int32_t>(bytes)});
    } else if (byte_fallback_) {
      for (const char byte : c) {
        symbols.push_back({byte_ids_[static_cast<uint8_t>(byte)], 1});
      }
    } else if (after_unknown && fuse_unknown_) {
      symbols.back().bytes += static_cast<int32_t>(bytes);
    } else {
      symbols.push_back({*unknown_, static_cast<int32_t>(bytes)});
    }
    after_unknown = unknown;
    at += bytes;
  }
  MergeByRank(
      [this](int32_t left, int32_t right) { return MergeOf(left, right); },
      symbols);
  return symbols;
}

}  // namespace mneme
