// SPDX-License-Identifier: Apache-2.0
//
// What waits in an input queue as bytes. engine/state/FORMAT.md has the
// grammar.
#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_coder.h"
#include "engine/base/utf8.h"
#include "engine/runtime/input_queue.h"

namespace mneme {

// A queue as it was read, not yet checked.
struct InputQueue::Decoded {
  std::string_view bytes;
  std::deque<Mark> marks;  // counted from the first of `bytes`
  ChatPlace place;
  bool after_control = false;
  bool idle = false;
  std::vector<TextToken> tokens;
};

namespace {

// Of an encoded mark and token at least; bounds how many there can be.
constexpr int64_t kLeastMarkBytes = 17;
constexpr int64_t kTokenBytes = 8;

int64_t CountOf(ByteReader& in, int64_t least_bytes) {
  const int64_t count = in.Count();
  if (count > static_cast<int64_t>(in.left()) / least_bytes) in.Fail();
  return in.ok() ? count : 0;
}

}  // namespace

void InputQueue::Encode(std::string& out) const {
  ByteWriter writer(out);
  writer.Bool(unit_ == SessionUnit::kTokens);
  writer.Bytes(bytes_.bytes());
  writer.Bytes(place_.role);
  writer.Bool(place_.open);
  writer.Bool(place_.ended);
  writer.Bool(after_control_);
  writer.Bool(idle_);
  writer.U64(marks_.size());
  for (const Mark& mark : marks_) {
    writer.I64(mark.at - taken_bytes_);
    writer.I64(mark.text_bytes);
    writer.Bool(mark.token.has_value());
    if (mark.token.has_value()) {
      writer.U32(static_cast<uint32_t>(*mark.token));
    }
  }
  writer.U64(tokens_.size() - next_);
  for (size_t i = next_; i < tokens_.size(); ++i) {
    writer.U32(static_cast<uint32_t>(tokens_[i].id));
    writer.U32(static_cast<uint32_t>(tokens_[i].bytes));
  }
}

absl::Status InputQueue::Decode(std::string_view in) {
  Clear();
  ByteReader reader(in);
  Decoded decoded;
  const bool counts_tokens = reader.Bool();
  decoded.bytes = reader.Bytes();
  decoded.place.role = reader.String();
  decoded.place.open = reader.Bool();
  decoded.place.ended = reader.Bool();
  decoded.after_control = reader.Bool();
  decoded.idle = reader.Bool();
  int64_t template_bytes = 0;
  const int64_t marks = CountOf(reader, kLeastMarkBytes);
  for (int64_t i = 0; i < marks; ++i) {
    Mark& mark = decoded.marks.emplace_back();
    mark.at = reader.Count();
    mark.text_bytes = reader.Count();
    if (reader.Bool()) mark.token = static_cast<int32_t>(reader.U32());
  }
  const int64_t tokens = CountOf(reader, kTokenBytes);
  for (int64_t i = 0; i < tokens; ++i) {
    TextToken& token = decoded.tokens.emplace_back();
    token.id = static_cast<int32_t>(reader.U32());
    token.bytes = static_cast<int32_t>(reader.U32());
  }
  std::string wrong;
  if (!reader.done()) {
    wrong = "found a torn record";
  } else if (counts_tokens != (unit_ == SessionUnit::kTokens)) {
    wrong = "found that of the other unit";
  } else {
    wrong = WhatIsWrong(decoded);
  }
  if (!wrong.empty()) {
    return absl::DataLossError(absl::StrCat("pending input: ", wrong));
  }
  for (const Mark& mark : decoded.marks) template_bytes += mark.text_bytes;
  bytes_.Append(decoded.bytes);
  taken_bytes_ = 0;
  marks_ = std::move(decoded.marks);
  template_bytes_ = template_bytes;
  place_ = std::move(decoded.place);
  after_control_ = decoded.after_control;
  tokens_ = std::move(decoded.tokens);
  idle_ = decoded.idle;
  return absl::OkStatus();
}

std::string InputQueue::WhatIsWrong(const Decoded& decoded) const {
  const bool has_token =
      std::any_of(decoded.marks.begin(), decoded.marks.end(),
                  [](const Mark& mark) { return mark.token.has_value(); });
  const auto size = static_cast<int64_t>(decoded.bytes.size());
  if (decoded.idle &&
      (has_token || !decoded.tokens.empty() || size > kMaxPendingBytes ||
       (unit_ == SessionUnit::kTokens && size > 0))) {
    return "found more than can be pending";
  }
  const int64_t vocab_size = model_->model != nullptr
                                 ? model_->model->config().vocab_size
                                 : std::numeric_limits<int32_t>::max();
  const auto unknown = [vocab_size](int32_t token) {
    return token < 0 || token >= vocab_size;
  };
  const ChatPlace& place = decoded.place;
  if (unit_ == SessionUnit::kTokens) {
    if (!decoded.marks.empty() || !decoded.tokens.empty() ||
        place != ChatPlace() || decoded.after_control || size % 4 != 0) {
      return "found text among tokens";
    }
    for (int64_t at = 0; at < size; at += 4) {
      if (unknown(
              static_cast<int32_t>(DecodeFixed32(decoded.bytes.data() + at)))) {
        return absl::StrCat("found an unknown token at byte ", at);
      }
    }
    return "";
  }
  if (chat() == nullptr && (place != ChatPlace() || !decoded.marks.empty())) {
    return "found a conversation without a chat template";
  }
  if (place.role.empty() ? place.open || place.ended
                         : !chat()->CheckRole(place.role).ok()) {
    return "found a turn of an unknown role";
  }
  int64_t end = 0;
  for (const Mark& mark : decoded.marks) {
    if (mark.at < end || mark.at > size || mark.text_bytes > size - mark.at ||
        mark.token.has_value() != (mark.text_bytes == 0) ||
        (mark.token.has_value() && unknown(*mark.token))) {
      return absl::StrCat("found a wrong mark at byte ", mark.at);
    }
    end = mark.at + mark.text_bytes;
  }
  for (const TextToken& token : decoded.tokens) {
    if (unknown(token.id)) return absl::StrCat("found token ", token.id);
  }
  return WhatIsWrongWithText(decoded);
}

// The tokens that were made stand for the front; what follows them, up to each
// token of the template, is a text of its own.
std::string InputQueue::WhatIsWrongWithText(const Decoded& decoded) const {
  std::vector<int64_t> ends;
  for (const Mark& mark : decoded.marks) {
    if (mark.token.has_value()) ends.push_back(mark.at);
  }
  ends.push_back(static_cast<int64_t>(decoded.bytes.size()));
  int64_t begin = 0;
  for (const TextToken& token : decoded.tokens) {
    if (token.bytes < 0 || token.bytes > ends.front() - begin) {
      return absl::StrCat("found a token of ", token.bytes, " bytes");
    }
    begin += token.bytes;
  }
  if (!model_->tokenizer->utf8()) return "";
  for (const int64_t end : ends) {
    const std::string_view text = decoded.bytes.substr(begin, end - begin);
    const Utf8Prefix whole = WholeUtf8Chars(text);
    if (!whole.cut && whole.whole_bytes < end - begin) {
      return absl::StrCat("found no UTF-8 at byte ", begin + whole.whole_bytes);
    }
    begin = end;
  }
  return "";
}

}  // namespace mneme
