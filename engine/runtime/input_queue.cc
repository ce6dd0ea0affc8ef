// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/input_queue.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/coding.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"

namespace mneme {
namespace {

// Tokens that are made at a time; a run of text may give more.
constexpr size_t kTokensAtATime = 64;

// The character that the end of `text` cuts off; empty if none.
std::string_view CutOff(std::string_view text) {
  const size_t longest = std::min<size_t>(text.size(), kMaxUtf8Bytes - 1);
  for (size_t bytes = 1; bytes <= longest; ++bytes) {
    const std::string_view last = text.substr(text.size() - bytes);
    if ((static_cast<uint8_t>(last[0]) & 0xc0) == 0x80) continue;
    const bool cut = FirstUtf8Char(last).kind == Utf8Char::Kind::kIncomplete;
    return cut ? last : std::string_view();
  }
  return {};
}

}  // namespace

void InputQueue::Append(std::string_view bytes) {
  if (bytes.empty()) return;
  bytes_.Append(bytes);
  idle_ = false;
}

void InputQueue::Clear() {
  bytes_.Clear();
  marks_.clear();
  template_bytes_ = 0;
  place_ = {};
  after_control_ = false;
  tokens_.clear();
  next_ = 0;
  idle_ = true;
}

void InputQueue::Put(const std::vector<ChatPiece>& pieces) {
  for (const ChatPiece& piece : pieces) {
    if (!piece.token.has_value() && piece.text.empty()) continue;
    const auto text_bytes = static_cast<int64_t>(piece.text.size());
    marks_.push_back({.at = taken_bytes_ + bytes_.size(),
                      .text_bytes = text_bytes,
                      .token = piece.token});
    template_bytes_ += text_bytes;
    Append(piece.text);
    idle_ = false;
  }
}

void InputQueue::BeginTurn(std::string_view role) {
  if (chat() == nullptr || role.empty()) return;
  if (place_.open && !place_.ended && place_.role == role) return;
  std::vector<ChatPiece> pieces;
  chat()->BeginTurn(role, place_, pieces);
  Put(pieces);
}

void InputQueue::EndTurn() {
  if (chat() == nullptr) return;
  std::vector<ChatPiece> pieces;
  chat()->EndTurn(place_, pieces);
  Put(pieces);
}

void InputQueue::AppendPrompt(const Prompt& prompt) {
  BeginTurn(prompt.role);
  Append(prompt.bytes);
  if (!prompt.role.empty()) EndTurn();
  if (chat() == nullptr || !prompt.asks || !BeginsReply("")) return;
  std::vector<ChatPiece> pieces;
  chat()->BeginReply(place_, pieces);
  Put(pieces);
}

void InputQueue::NoteSaid(int32_t token) {
  if (chat() != nullptr) chat()->NoteSaid(token, place_);
}

const InputQueue::Mark* InputQueue::FirstToken() const {
  for (const Mark& mark : marks_) {
    if (mark.token.has_value()) return &mark;
  }
  return nullptr;
}

void InputQueue::Take(int64_t bytes) {
  taken_.clear();
  const std::string_view front = bytes_.bytes().substr(0, bytes);
  int64_t at = 0;
  while (at < bytes && !marks_.empty()) {
    Mark& mark = marks_.front();
    const int64_t begin = std::min(mark.at - taken_bytes_, bytes);
    taken_ += front.substr(at, begin - at);
    at = begin;
    if (at == bytes || mark.token.has_value()) break;
    const int64_t here = std::min(mark.text_bytes, bytes - at);
    template_bytes_ -= here;
    at += here;
    mark.at += here;
    mark.text_bytes -= here;
    if (mark.text_bytes > 0) break;
    marks_.pop_front();
  }
  taken_ += front.substr(at);
  bytes_.Consume(bytes);
  taken_bytes_ += bytes;
}

bool InputQueue::EncodeFront(bool begins, bool ends) {
  tokens_.clear();
  next_ = 0;
  const Mark* const mark = FirstToken();
  const int64_t bytes =
      mark != nullptr ? mark->at - taken_bytes_ : bytes_.size();
  model_->tokenizer->EncodeFront(bytes_.bytes().substr(0, bytes),
                                 {.begins = begins,
                                  .ends = ends || mark != nullptr,
                                  .after_control = after_control_},
                                 kTokensAtATime, tokens_);
  return !tokens_.empty();
}

absl::optional<InputQueue::Token> InputQueue::Next(bool begins, bool ends) {
  if (unit_ == SessionUnit::kTokens) {
    if (bytes_.empty()) {
      idle_ = true;
      return absl::nullopt;
    }
    taken_ = bytes_.bytes().substr(0, 4);
    bytes_.Consume(4);
    return Token{static_cast<int32_t>(DecodeFixed32(taken_.data())), taken_};
  }
  if (next_ < tokens_.size() || EncodeFront(begins, ends)) {
    const TextToken& token = tokens_[next_++];
    Take(token.bytes);
    after_control_ = false;
    return Token{token.id, taken_};
  }
  if (const Mark* const mark = FirstToken(); mark != nullptr) {
    // Text before it that no token stands for, white space, goes with it.
    const int32_t id = *mark->token;
    Take(mark->at - taken_bytes_);
    marks_.pop_front();
    after_control_ = true;
    return Token{id, taken_};
  }
  idle_ = true;
  bytes_.Trim();
  if (tokens_.capacity() > 2 * kTokensAtATime) tokens_ = {};
  return absl::nullopt;
}

absl::Status InputQueue::CheckText(std::string_view text,
                                   const std::string& field,
                                   int64_t offset) const {
  if (unit_ == SessionUnit::kTokens || !model_->tokenizer->utf8()) {
    return absl::OkStatus();
  }
  // A character that began before, by itself, and then what follows it.
  const std::string_view begun = CutOff(bytes_.bytes());
  int64_t at = 0;
  if (!begun.empty()) {
    const std::string joined = absl::StrCat(
        std::string(begun), std::string(text.substr(0, kMaxUtf8Bytes)));
    const Utf8Char c = FirstUtf8Char(joined);
    if (c.kind == Utf8Char::Kind::kIncomplete) return absl::OkStatus();
    at = c.bytes - static_cast<int64_t>(begun.size());
    if (c.kind == Utf8Char::Kind::kMalformed) {
      return BadUtf8(field, offset + at,
                     absl::StrCat("found a character broken off at byte ",
                                  offset + at, ", wanted UTF-8"));
    }
  }
  const Utf8Prefix whole = WholeUtf8Chars(text.substr(at));
  at += whole.whole_bytes;
  if (whole.cut || at == static_cast<int64_t>(text.size())) {
    return absl::OkStatus();
  }
  return BadUtf8(
      field, offset + at,
      absl::StrCat("found 0x", absl::Hex(static_cast<uint8_t>(text[at])),
                   " at byte ", offset + at, ", wanted UTF-8"));
}

absl::Status InputQueue::CheckLimit(const std::string& what,
                                    int64_t position) const {
  const int64_t limit = model_->model->config().token_limit();
  if (!NearLimit(0, position)) return absl::OkStatus();
  InputQueue trial = *this;
  for (int64_t at = position; at <= limit; ++at) {
    const bool begins = unit_ == SessionUnit::kText && model_->TextBegins(at);
    if (trial.Next(begins, /*ends=*/true).has_value()) continue;
    // A character that is cut off becomes a token too, once it is whole.
    if (at < limit || trial.bytes_.empty()) return absl::OkStatus();
  }
  return TokenLimit(*model_, what, position);
}

bool InputQueue::NearLimit(size_t bytes, int64_t position) const {
  // Of a turn, and of what text may begin with.
  constexpr int64_t kTemplateTokens = 256;
  const int64_t limit = model_->model->config().token_limit();
  return limit > 0 && position + held_bytes() + static_cast<int64_t>(bytes) +
                              kTemplateTokens >
                          limit;
}

absl::Status TokenLimit(const ServedModel& model, const std::string& what,
                        int64_t position) {
  const int64_t limit = model.model->config().token_limit();
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat(
          what, " goes beyond the ", limit, " tokens that a session of model ",
          model.name, " takes, of which it holds ", position,
          "; want a new or a reset session, or the model served with "
          "attention_window, which takes any number")),
      {.reason = "TOKEN_LIMIT",
       .metadata = {{"limit", absl::StrCat(limit)},
                    {"position", absl::StrCat(position)}}});
}

absl::Status InputQueue::CheckTurn(std::string_view text, std::string_view role,
                                   bool end_of_turn,
                                   const std::string& message) const {
  if (chat() == nullptr) return absl::OkStatus();
  if (!role.empty()) {
    const absl::Status status = chat()->CheckRole(role);
    if (!status.ok()) {
      return BadField(message + "role", std::string(status.message()));
    }
    const bool same = place_.open && !place_.ended && place_.role == role;
    if (!same && cut()) {
      return BadField(message + "role",
                      "found a turn that begins inside a character, wanted the "
                      "character's end before it");
    }
  }
  const bool ends = end_of_turn && (place_.open || !role.empty());
  if (!ends || !model_->tokenizer->utf8()) return absl::OkStatus();
  if (!Cuts(text)) return absl::OkStatus();
  return BadField(message + "end_of_turn",
                  "found a turn that ends inside a character, wanted UTF-8");
}

absl::Status InputQueue::CheckPrompt(const Prompt& prompt) const {
  MNEME_RETURN_IF_ERROR(CheckText(prompt.bytes, "prompt"));
  MNEME_RETURN_IF_ERROR(
      CheckTurn(prompt.bytes, prompt.role, !prompt.role.empty(), ""));
  if (chat() == nullptr || !prompt.asks || !BeginsReply(prompt.role) ||
      !Cuts(prompt.bytes)) {
    return absl::OkStatus();
  }
  return BadField("prompt",
                  "found an answer that begins inside a character, wanted the "
                  "character's end before it");
}

bool InputQueue::BeginsReply(std::string_view role) const {
  if (!role.empty()) return true;
  if (place_.role.empty()) return false;  // no conversation
  return !place_.open || place_.ended || place_.role != kAssistantRole;
}

bool InputQueue::Cuts(std::string_view text) const {
  if (!model_->tokenizer->utf8()) return false;
  const std::string_view before = bytes_.bytes();
  const size_t last = std::min<size_t>(before.size(), kMaxUtf8Bytes - 1);
  const std::string joined = absl::StrCat(
      std::string(before.substr(before.size() - last)),
      std::string(text.substr(text.size() -
                              std::min<size_t>(text.size(), kMaxUtf8Bytes))));
  return !CutOff(text.size() < kMaxUtf8Bytes ? joined : text).empty();
}

bool InputQueue::cut() const {
  return unit_ == SessionUnit::kText && model_->tokenizer->utf8() &&
         !CutOff(bytes_.bytes()).empty();
}

}  // namespace mneme
