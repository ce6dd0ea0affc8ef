// SPDX-License-Identifier: Apache-2.0
//
// A session's state as bytes: what it was made for, how far it is, and the rows
// of its parts that count. FORMAT.md has the grammar.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_coder.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/state/session_state.h"

namespace mneme {
namespace {

constexpr uint32_t kVersion = 1;
// No history is longer; keeps sums of positions in range.
constexpr int64_t kMaxTokens = int64_t{1} << 56;

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(
      absl::StrCat("session state: ", std::string(what)));
}

absl::Status Incompatible(const std::string& what, const std::string& found,
                          const std::string& expected) {
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat(
          "session state: ", what, " is ", found, ", wanted ", expected)),
      {.reason = "STATE_INCOMPATIBLE",
       .metadata = {{"found", found}, {"expected", expected}}});
}

void EncodePart(const PartSpec& part, ByteWriter& out) {
  out.Bytes(part.name);
  out.U8(static_cast<uint8_t>(part.kind));
  out.I64(part.rows);
  out.I64(part.row_floats);
  out.Bool(part.starts_over);
}

PartSpec DecodePart(ByteReader& in) {
  PartSpec part;
  part.name = in.String();
  const uint8_t kind = in.U8();
  if (kind > static_cast<uint8_t>(PartKind::kRing)) in.Fail();
  part.kind = static_cast<PartKind>(kind);
  part.rows = in.Count();
  part.row_floats = in.Count();
  part.starts_over = in.Bool();
  return part;
}

std::string Describe(const PartSpec& part) {
  const char* const kKinds[] = {"rewritten", "appended", "ring"};
  return absl::StrCat("\"", part.name, "\" ", kKinds[int(part.kind)], " [",
                      part.rows, ",", part.row_floats, "]",
                      part.starts_over ? "" : " that stays");
}

// "layer 3: part 2", the parts of a layer counted from 0.
std::string NameOf(const StateLayout& layout, int64_t part) {
  if (part == layout.hidden_part()) return "the hidden part";
  int64_t layer = static_cast<int64_t>(layout.spec().layers.size()) - 1;
  while (layout.first_part(layer) > part) --layer;
  return absl::StrCat("layer ", layer, ": part ",
                      part - layout.first_part(layer));
}

absl::Status CheckLayout(const StateLayout& layout, ByteReader& in) {
  const uint32_t version = in.U32();
  if (in.ok() && version > kVersion) {
    return Incompatible("the format's version", absl::StrCat(version),
                        absl::StrCat(kVersion));
  }
  const int64_t block_tokens = in.Count();
  const int64_t part_count = in.Count();
  if (!in.ok() || version == 0) return Damaged("found a torn head");
  if (block_tokens != layout.spec().block_tokens) {
    return Incompatible("the block's number of tokens",
                        absl::StrCat(block_tokens),
                        absl::StrCat(layout.spec().block_tokens));
  }
  if (part_count != layout.part_count()) {
    return Incompatible("the number of parts", absl::StrCat(part_count),
                        absl::StrCat(layout.part_count()));
  }
  for (int64_t i = 0; i < part_count; ++i) {
    const PartSpec found = DecodePart(in);
    if (!in.ok()) return Damaged("found a torn head");
    if (found != layout.part(i)) {
      return Incompatible(NameOf(layout, i), Describe(found),
                          Describe(layout.part(i)));
    }
  }
  return absl::OkStatus();
}

void EncodeTokens(absl::Span<const int32_t> tokens, ByteWriter& out) {
  out.I64(static_cast<int64_t>(tokens.size()));
  for (const int32_t token : tokens) out.U32(static_cast<uint32_t>(token));
}

// No more than `most`.
std::vector<int32_t> DecodeTokens(int64_t most, ByteReader& in) {
  const int64_t count = in.Count();
  std::vector<int32_t> tokens;
  if (count > most || count * 4 > static_cast<int64_t>(in.left())) {
    in.Fail();
    return tokens;
  }
  tokens.reserve(count);
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(in.U32()));
  }
  return tokens;
}

// f32 in memory order, which is little-endian on every target we build.
void EncodeFloats(const float* values, int64_t count, std::string& out) {
  out.append(reinterpret_cast<const char*>(values), count * 4);
}

}  // namespace

int64_t SessionState::UsedRows(int64_t part) const {
  const PartSpec& spec = layout_->part(part);
  return spec.kind == PartKind::kRing ? std::min(computed_tokens_, spec.rows)
                                      : cursors_[part].committed.rows;
}

void SessionState::EncodeHead(std::string& out) const {
  ByteWriter writer(out);
  writer.U32(kVersion);
  writer.I64(layout_->spec().block_tokens);
  writer.I64(layout_->part_count());
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    EncodePart(layout_->part(part), writer);
  }
  writer.I64(computed_tokens_);
  writer.Bool(stepped_);
  EncodeTokens(tail_, writer);
  std::vector<int32_t> recent;
  CopyRecent(kRecentTokens, recent);
  EncodeTokens(recent, writer);
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    writer.I64(UsedRows(part));
  }
}

int64_t SessionState::EncodedBytes() const {
  std::string head;
  EncodeHead(head);
  int64_t bytes = static_cast<int64_t>(head.size());
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    bytes += UsedRows(part) * layout_->part(part).row_floats * 4;
  }
  return bytes;
}

void SessionState::Encode(std::string& out) const {
  EncodeHead(out);
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    const PartSpec& spec = layout_->part(part);
    const int64_t rows = UsedRows(part);
    if (spec.kind != PartKind::kRing) {
      EncodeFloats(Buffer(part, cursors_[part].committed.buffer),
                   rows * spec.row_floats, out);
      continue;
    }
    for (int64_t p = computed_tokens_ - rows; p < computed_tokens_; ++p) {
      EncodeFloats(RingRow(part, p), spec.row_floats, out);
    }
  }
}

absl::Status SessionState::Decode(std::string_view bytes) {
  ByteReader in(bytes);
  MNEME_RETURN_IF_ERROR(CheckLayout(*layout_, in));
  const int64_t block = layout_->spec().block_tokens;
  const int64_t computed = in.Count();
  const bool stepped = in.Bool();
  const std::vector<int32_t> tail = DecodeTokens(block, in);
  const std::vector<int32_t> recent = DecodeTokens(kRecentTokens, in);
  std::vector<int64_t> rows;
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    rows.push_back(in.Count());
  }
  if (!in.ok()) return Damaged("found a torn head");

  const auto waiting = static_cast<int64_t>(tail.size());
  if (computed > kMaxTokens || waiting > block - computed % block) {
    return Damaged(absl::StrCat("found ", waiting, " waiting tokens behind ",
                                computed, ", which no block has"));
  }
  const int64_t position = computed + waiting;
  if (stepped && position % block == 0 && waiting == 0) {
    return Damaged("found a stepped block without a token");
  }
  if (static_cast<int64_t>(recent.size()) !=
      std::min(position, kRecentTokens)) {
    return Damaged(absl::StrCat("found ", recent.size(),
                                " last tokens of a history of ", position));
  }
  if (!std::equal(tail.rbegin(),
                  tail.rbegin() + std::min(tail.size(), recent.size()),
                  recent.rbegin())) {
    return Damaged("found waiting tokens that are not the last ones");
  }
  int64_t floats = 0;
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    const PartSpec& spec = layout_->part(part);
    const int64_t most = spec.kind == PartKind::kRing
                             ? std::min(computed, spec.rows)
                             : spec.rows;
    const int64_t least = spec.kind == PartKind::kAppended ? 0 : most;
    if (rows[part] < least || rows[part] > most) {
      return Damaged(absl::StrCat(NameOf(*layout_, part), " has ", rows[part],
                                  " rows, wanted ", most));
    }
    floats += rows[part] * spec.row_floats;
  }
  if (static_cast<int64_t>(in.left()) != floats * 4) {
    return Damaged(absl::StrCat("found ", in.left(), " bytes of parts, wanted ",
                                floats * 4));
  }

  computed_tokens_ = computed;
  stepped_ = stepped;
  tail_.assign(tail.begin(), tail.end());
  for (size_t i = 0; i < recent.size(); ++i) {
    recent_[(position - recent.size() + i) % kRecentTokens] = recent[i];
  }
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    const PartSpec& spec = layout_->part(part);
    const auto read = [&in, &spec](int64_t count, float* to) {
      const std::string_view values = in.Raw(count * spec.row_floats * 4);
      if (!values.empty()) std::memcpy(to, values.data(), values.size());
    };
    if (spec.kind != PartKind::kRing) {
      read(rows[part], Buffer(part, 0));
      cursors_[part].committed = {.buffer = 0, .rows = rows[part]};
      cursors_[part].pending = cursors_[part].committed;
      continue;
    }
    for (int64_t p = computed - rows[part]; p < computed; ++p) {
      read(1, Buffer(part, 0) + p % ring_rows(part) * spec.row_floats);
    }
  }
  return absl::OkStatus();
}

}  // namespace mneme
