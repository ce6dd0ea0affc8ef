// SPDX-License-Identifier: Apache-2.0
#include "tests/property/api_model.h"

#include <utility>

#include "engine/base/sha256.h"
#include "engine/base/utf8.h"

namespace mneme {
namespace {

std::string CutOffEnd(const std::string& text) {
  const Utf8Prefix whole = WholeUtf8Chars(text);
  return whole.cut ? text.substr(whole.whole_bytes) : "";
}

}  // namespace

std::string DigestOf(std::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.HexDigest();
}

bool FollowsAsUtf8(const std::string& cut, const std::string& text) {
  const std::string joined = cut + text;
  const Utf8Prefix whole = WholeUtf8Chars(joined);
  return whole.cut || whole.whole_bytes == static_cast<int64_t>(joined.size());
}

std::string ModelOp::text() const {
  std::string text;
  for (const std::string& token : said) text += token;
  return text;
}

int64_t ModelOp::bytes() const {
  return static_cast<int64_t>(input.size() + text().size());
}

std::string ModelHistory::bytes() const {
  std::string bytes;
  for (const ModelOp& op : ops) bytes += op.input + op.text();
  return bytes;
}

int64_t ModelHistory::size() const {
  int64_t size = 0;
  for (const ModelOp& op : ops) size += op.bytes();
  return size;
}

void ModelHistory::AddInput(const std::string& input) {
  if (input.empty()) return;
  ModelOp op;
  op.input = input;
  ops.push_back(std::move(op));
}

std::string ModelHistory::CutCharacter() const {
  std::string cut;
  for (const ModelOp& op : ops) cut = CutOffEnd(cut + op.input);
  return cut;
}

const ModelOp* ModelHistory::Kept() const {
  for (auto op = ops.rbegin(); op != ops.rend(); ++op) {
    if (!op->options.request_id.empty()) return &*op;
  }
  return nullptr;
}

bool ModelHistory::Repeatable() const {
  for (const ModelOp& op : ops) {
    if (op.cut) return false;
  }
  return certain;
}

bool ModelHistory::HasEmptyOpAt(int64_t at) const {
  int64_t begin = 0;
  for (const ModelOp& op : ops) {
    if (begin == at && op.bytes() == 0) return true;
    begin += op.bytes();
  }
  return false;
}

absl::optional<ModelHistory> ModelHistory::UpTo(int64_t at,
                                                int64_t floor) const {
  ModelHistory left;
  if (at == 0) return left;
  if (at == size()) return *this;
  left.certain = certain;
  left.base_ops = base_ops;
  if (floor > 0 && at == floor) {
    left.ops.assign(ops.begin(), ops.begin() + static_cast<int64_t>(base_ops));
    return left;
  }
  int64_t begin = 0;
  for (const ModelOp& op : ops) {
    if (begin >= at) break;
    const int64_t room = at - begin;
    begin += op.bytes();
    if (op.bytes() <= room) {
      left.ops.push_back(op);
      continue;
    }
    if (static_cast<int64_t>(op.input.size()) >= room) {
      left.AddInput(op.input.substr(0, room));
      break;
    }
    ModelOp front = op;
    front.said.clear();
    front.tokens.clear();
    front.cut = true;
    auto bytes = static_cast<int64_t>(front.input.size());
    for (size_t i = 0; bytes < room; ++i) {
      bytes += static_cast<int64_t>(op.said[i].size());
      if (bytes > room) return absl::nullopt;
      front.said.push_back(op.said[i]);
      if (i < op.tokens.size()) front.tokens.push_back(op.tokens[i]);
    }
    left.ops.push_back(std::move(front));
    break;
  }
  return left;
}

}  // namespace mneme
