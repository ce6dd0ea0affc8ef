// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/input_queue.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/coding.h"
#include "engine/base/errors.h"
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
  tokens_.clear();
  next_ = 0;
  idle_ = true;
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
  if (next_ == tokens_.size()) {
    tokens_.clear();
    next_ = 0;
    model_->tokenizer->EncodeFront(bytes_.bytes(),
                                   {.begins = begins, .ends = ends},
                                   kTokensAtATime, tokens_);
    if (tokens_.empty()) {
      idle_ = true;
      bytes_.Trim();
      if (tokens_.capacity() > 2 * kTokensAtATime) tokens_ = {};
      return absl::nullopt;
    }
  }
  const TextToken& token = tokens_[next_++];
  taken_ = bytes_.bytes().substr(0, token.bytes);
  bytes_.Consume(token.bytes);
  return Token{token.id, taken_};
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
      return BadField(field,
                      absl::StrCat("found a character broken off at byte ",
                                   offset + at, ", wanted UTF-8"));
    }
  }
  const Utf8Prefix whole = WholeUtf8Chars(text.substr(at));
  at += whole.whole_bytes;
  if (whole.cut || at == static_cast<int64_t>(text.size())) {
    return absl::OkStatus();
  }
  return BadField(
      field, absl::StrCat("found 0x", absl::Hex(static_cast<uint8_t>(text[at])),
                          " at byte ", offset + at, ", wanted UTF-8"));
}

absl::Status InputQueue::CheckLimit(std::string_view text,
                                    const std::string& what,
                                    int64_t position) const {
  const int64_t limit = model_->model->config().token_limit();
  if (limit == 0) return absl::OkStatus();
  const std::string all =
      absl::StrCat(std::string(bytes_.bytes()), std::string(text));
  int64_t tokens = static_cast<int64_t>(all.size()) / 4;
  if (unit_ == SessionUnit::kText) {
    std::vector<TextToken> encoded;
    const int64_t taken = model_->tokenizer->EncodeFront(
        all, {.begins = model_->TextBegins(position), .ends = true},
        static_cast<size_t>(limit + 1), encoded);
    // A character that is cut off becomes a token too, once it is whole.
    tokens = static_cast<int64_t>(encoded.size()) +
             (taken < static_cast<int64_t>(all.size()) ? 1 : 0);
  }
  if (position + tokens <= limit) return absl::OkStatus();
  return TokenLimit(*model_, what, position);
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

bool InputQueue::cut() const {
  return unit_ == SessionUnit::kText && model_->tokenizer->utf8() &&
         !CutOff(bytes_.bytes()).empty();
}

}  // namespace mneme
