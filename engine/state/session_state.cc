// SPDX-License-Identifier: Apache-2.0
#include "engine/state/session_state.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "engine/base/sha256.h"
#include "engine/tensor/finite.h"

namespace mneme {

SessionState::SessionState(std::shared_ptr<const StateLayout> layout)
    : layout_(std::move(layout)),
      memory_(AlignedBuffer::Zeroed(layout_->total_floats() * 4)),
      cursors_(layout_->part_count()),
      recent_(kRecentTokens) {
  tail_.reserve(layout_->spec().block_tokens);
  Begin();
}

void SessionState::Clear() {
  std::memset(memory_.data(), 0, layout_->total_floats() * 4);
  Begin();
}

void SessionState::Begin() {
  tail_.clear();
  computed_tokens_ = 0;
  stepped_ = false;
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    const PartSpec& spec = layout_->part(part);
    const int64_t rows = spec.kind == PartKind::kRewritten ? spec.rows : 0;
    cursors_[part].committed = {.buffer = 0, .rows = rows};
    cursors_[part].pending = cursors_[part].committed;
  }
}

int64_t SessionState::BookkeepingBytes(const StateLayout& layout) {
  return static_cast<int64_t>(sizeof(SessionState)) +
         layout.part_count() * static_cast<int64_t>(sizeof(Cursor)) +
         (layout.spec().block_tokens + kRecentTokens) *
             static_cast<int64_t>(sizeof(int32_t));
}

absl::StatusOr<std::unique_ptr<SessionState>> SessionState::Create(
    std::shared_ptr<const StateLayout> layout) {
  auto state = absl::WrapUnique(new SessionState(std::move(layout)));
  const int64_t bytes = state->layout().total_floats() * 4;
  if (!state->memory_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("session state: the machine refused ", bytes, " bytes"));
  }
  return state;
}

absl::StatusOr<std::unique_ptr<SessionState>> SessionState::Clone() const {
  absl::StatusOr<std::unique_ptr<SessionState>> made = Create(layout_);
  if (!made.ok()) return made.status();
  SessionState& copy = **made;
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    const Extent& extent = cursors_[part].committed;
    const PartSpec& spec = layout_->part(part);
    const int64_t rows =
        spec.kind == PartKind::kRing ? ring_rows(part) : extent.rows;
    std::copy_n(Buffer(part, extent.buffer), rows * spec.row_floats,
                copy.Buffer(part, extent.buffer));
    copy.cursors_[part] = {.committed = extent, .pending = extent};
  }
  copy.tail_.assign(tail_.begin(), tail_.end());
  copy.recent_ = recent_;
  copy.computed_tokens_ = computed_tokens_;
  copy.stepped_ = stepped_;
  return made;
}

void SessionState::Append(int64_t part, int64_t rows) {
  Extent& pending = cursors_[part].pending;
  pending.rows += rows;
  MNEME_DCHECK(pending.rows <= layout_->room(part, pending.buffer));
}

void SessionState::Replace(int64_t part, int64_t rows) {
  const int buffer = 1 - cursors_[part].committed.buffer;
  MNEME_DCHECK(rows <= layout_->room(part, buffer));
  cursors_[part].pending = {.buffer = buffer, .rows = rows};
}

int64_t SessionState::tail_room() const {
  const int64_t block = layout_->spec().block_tokens;
  return block - computed_tokens_ % block - static_cast<int64_t>(tail_.size());
}

void SessionState::PushToken(int32_t token) {
  MNEME_DCHECK(tail_room() > 0);
  recent_[position() % kRecentTokens] = token;
  tail_.push_back(token);
}

void SessionState::CopyRecent(int64_t count,
                              std::vector<int32_t>& tokens) const {
  MNEME_DCHECK(count <= kRecentTokens);
  tokens.clear();
  for (int64_t at = std::max<int64_t>(position() - count, 0); at < position();
       ++at) {
    tokens.push_back(recent_[at % kRecentTokens]);
  }
}

void SessionState::Ask() {
  if (position() % layout_->spec().block_tokens != 0 || !tail_.empty()) {
    stepped_ = true;
  }
}

absl::Span<const float> SessionState::hidden() const {
  return {contents(layout_->hidden_part()),
          static_cast<size_t>(layout_->spec().hidden_floats)};
}

bool SessionState::UnitIsFinite() const {
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    const Cursor& cursor = cursors_[part];
    if (layout_->part(part).kind == PartKind::kRing) {
      for (int64_t p = computed_tokens_; p < position(); ++p) {
        if (!AllFinite({RingRow(part, p),
                        static_cast<size_t>(layout_->part(part).row_floats)})) {
          return false;
        }
      }
      continue;
    }
    const bool appended = cursor.pending.buffer == cursor.committed.buffer;
    const int64_t first = appended ? cursor.committed.rows : 0;
    const int64_t row_floats = layout_->part(part).row_floats;
    if (!AllFinite({Buffer(part, cursor.pending.buffer) + first * row_floats,
                    static_cast<size_t>((cursor.pending.rows - first) *
                                        row_floats)})) {
      return false;
    }
  }
  return true;
}

void SessionState::Commit() {
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    Cursor& cursor = cursors_[part];
    const PartSpec& spec = layout_->part(part);
    if (spec.kind == PartKind::kAppended && cursor.pending.buffer == 1) {
      std::copy_n(Buffer(part, 1), cursor.pending.rows * spec.row_floats,
                  Buffer(part, 0));
      cursor.pending.buffer = 0;
    }
    cursor.committed = cursor.pending;
  }
  computed_tokens_ = position();
  tail_.clear();
  if (computed_tokens_ % layout_->spec().block_tokens == 0) stepped_ = false;
}

void SessionState::Abandon() {
  for (Cursor& cursor : cursors_) cursor.pending = cursor.committed;
}

std::string SessionState::Digest(std::string_view fingerprint,
                                 std::string_view pending) const {
  Sha256 hash;
  hash.Update("mneme-state-2");
  hash.Update(fingerprint);
  hash.UpdateInt64(computed_tokens_);
  hash.UpdateInt64(stepped_ ? 1 : 0);
  hash.UpdateInt64(static_cast<int64_t>(tail_.size()));
  for (const int32_t token : tail_) hash.UpdateInt64(token);
  hash.UpdateInt64(static_cast<int64_t>(pending.size()));
  hash.Update(pending);
  const int64_t recent = std::min(position(), kRecentTokens);
  hash.UpdateInt64(recent);
  for (int64_t at = position() - recent; at < position(); ++at) {
    hash.UpdateInt64(recent_[at % kRecentTokens]);
  }
  for (int64_t part = 0; part < layout_->part_count(); ++part) {
    const Extent& extent = cursors_[part].committed;
    const PartSpec& spec = layout_->part(part);
    if (spec.kind == PartKind::kRing) {
      const int64_t rows = std::min(computed_tokens_, spec.rows);
      hash.UpdateInt64(rows);
      for (int64_t p = computed_tokens_ - rows; p < computed_tokens_; ++p) {
        hash.Update(
            std::string_view(reinterpret_cast<const char*>(RingRow(part, p)),
                             spec.row_floats * 4));
      }
      continue;
    }
    hash.UpdateInt64(extent.rows);
    // f32 in memory order, which is little-endian on every target we build.
    hash.Update(std::string_view(
        reinterpret_cast<const char*>(Buffer(part, extent.buffer)),
        extent.rows * spec.row_floats * 4));
  }
  return hash.HexDigest();
}

}  // namespace mneme
