// SPDX-License-Identifier: Apache-2.0
//
// What a session remembers, as a value of fixed size.
//
// Every part has two buffers. One holds the committed contents. A unit of work
// (the tokens of one pass) replaces a part by writing the other buffer, or
// appends rows behind the committed ones; both become the state together when
// the unit commits, and not at all when it is abandoned:
//
//     committed:  buffer 0, rows 0..5          | Replace -> buffer 1
//     pending:    buffer 0, rows 0..7  Append  |
//     Commit():   committed = pending          Abandon(): pending = committed
//
// A rewritten part goes from one buffer to the other. An appended part lives
// in buffer 0; buffer 1 has room for what one unit writes of a part that
// starts over, and Commit moves that to the front.
//
// Tokens that are not computed yet wait in the tail, which never reaches
// beyond the end of the open block. They are history already: the last tokens
// of it, computed or waiting, are kept in a ring for what looks back at them.
#ifndef MNEME_ENGINE_STATE_SESSION_STATE_H_
#define MNEME_ENGINE_STATE_SESSION_STATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/check.h"
#include "engine/state/state_spec.h"
#include "engine/tensor/tensor.h"

namespace mneme {

// Thread-compatible: one thread at a time.
class SessionState {
 public:
  // Tokens that the ring holds.
  static constexpr int64_t kRecentTokens = 1024;

  // All parts zero, or without rows. RESOURCE_EXHAUSTED if the memory is
  // refused.
  static absl::StatusOr<std::unique_ptr<SessionState>> Create(
      std::shared_ptr<const StateLayout> layout);

  // As Create made it.
  void Clear();

  // A copy of the committed state, the tail and the ring. REQUIRES: no unit is
  // open.
  absl::StatusOr<std::unique_ptr<SessionState>> Clone() const;

  // Bytes of a state of `layout` beside its parts.
  static int64_t BookkeepingBytes(const StateLayout& layout);

  const StateLayout& layout() const { return *layout_; }

  // -- Parts, as the open unit sees them -----------------------------------

  // The newest contents; `rows` of them count.
  const float* contents(int64_t part) const {
    return Buffer(part, cursors_[part].pending.buffer);
  }
  int64_t rows(int64_t part) const { return cursors_[part].pending.rows; }

  // Where a unit appends: row rows(part) and on.
  float* mutable_contents(int64_t part) {
    return Buffer(part, cursors_[part].pending.buffer);
  }
  // Where a unit writes new contents. After a Replace in the same unit these
  // are the newest contents themselves. Of an appended part there is room for
  // a block's rows.
  float* spare(int64_t part) {
    return Buffer(part, 1 - cursors_[part].committed.buffer);
  }

  // A ring: the row of the token at position p is row p mod ring_rows. A unit
  // writes those of its tokens; the rows that were before stay for as long as
  // the last of its tokens counts them among its last.
  float* ring(int64_t part) { return Buffer(part, 0); }
  int64_t ring_rows(int64_t part) const { return layout_->room(part, 0); }

  // `rows` more rows count, written behind the newest contents.
  void Append(int64_t part, int64_t rows);
  // The newest contents are now the spare buffer's, `rows` long.
  void Replace(int64_t part, int64_t rows);

  // -- Tokens --------------------------------------------------------------

  // Tokens in the parts.
  int64_t computed_tokens() const { return computed_tokens_; }
  // Tokens of the history: computed and waiting.
  int64_t position() const {
    return computed_tokens_ + static_cast<int64_t>(tail_.size());
  }
  absl::Span<const int32_t> tail() const { return tail_; }

  // Overwrites `tokens` with the last tokens of the history, oldest first:
  // `count` of them, or all if it has fewer. REQUIRES: count <= kRecentTokens.
  void CopyRecent(int64_t count, std::vector<int32_t>& tokens) const;

  // Tokens that the tail still takes before its block is full.
  int64_t tail_room() const;
  // REQUIRES: tail_room() > 0.
  void PushToken(int32_t token);

  // Output is wanted at this position: the open block, if it holds a token,
  // goes by the step path to its end.
  void Ask();
  // Whether the open block goes by the step path.
  bool stepped() const { return stepped_; }

  // The final hidden state of the last computed token, [hidden_floats].
  // Meaningless while computed_tokens() is 0.
  absl::Span<const float> hidden() const;

  // Whether all numbers that the open unit wrote are finite.
  bool UnitIsFinite() const;
  // The tail was computed: the unit's changes and its tokens become state.
  void Commit();
  // The unit's changes are forgotten; the tail still waits.
  void Abandon();

  // SHA-256 over the committed state: 64 hex digits. Equal for equal
  // histories; `fingerprint` names the model, `pending` is text of the history
  // that is not tokens yet. The form that is hashed, all integers as 8 bytes
  // little-endian:
  //   "mneme-state-2" fingerprint computed_tokens stepped(0|1)
  //   tail length, tail tokens, pending length, pending,
  //   ring length (at most kRecentTokens), its tokens, oldest first,
  //   then for every part its rows and the f32 values of those rows, of a ring
  //   in the order of their tokens.
  std::string Digest(std::string_view fingerprint,
                     std::string_view pending = {}) const;

  // -- As bytes; see FORMAT.md ---------------------------------------------

  // Appends the committed state, the tail and the ring to `out`. An open unit
  // leaves no trace.
  void Encode(std::string& out) const;
  // Bytes that Encode appends.
  int64_t EncodedBytes() const;
  // Becomes the state that was encoded: the same digest, and the same
  // continuation bit for bit. REQUIRES: the state is new, or Clear was called,
  // and no unit is open; rows of a ring before the first token stay as they
  // are. FAILED_PRECONDITION (STATE_INCOMPATIBLE) for another layout or a newer
  // format, DATA_LOSS for bytes that no state has; then nothing has changed.
  // What the model alone knows is not checked: Model::DecodeState does.
  absl::Status Decode(std::string_view in);

 private:
  struct Extent {
    int buffer = 0;
    int64_t rows = 0;
  };
  struct Cursor {
    Extent committed;
    Extent pending;
  };

  explicit SessionState(std::shared_ptr<const StateLayout> layout);

  // What Clear does, where the memory is zero already.
  void Begin();

  // Rows of a part that are encoded: those that are committed.
  int64_t UsedRows(int64_t part) const;
  // Bytes that are encoded before the parts' rows.
  void EncodeHead(std::string& out) const;

  const float* Buffer(int64_t part, int buffer) const {
    return reinterpret_cast<const float*>(memory_.data()) +
           layout_->offset(part, buffer);
  }
  // The row of the token at `position` in a ring.
  const float* RingRow(int64_t part, int64_t position) const {
    return Buffer(part, 0) +
           position % ring_rows(part) * layout_->part(part).row_floats;
  }
  float* Buffer(int64_t part, int buffer) {
    return reinterpret_cast<float*>(memory_.data()) +
           layout_->offset(part, buffer);
  }

  std::shared_ptr<const StateLayout> layout_;
  AlignedBuffer memory_;
  std::vector<Cursor> cursors_;  // one per part
  std::vector<int32_t> tail_;    // capacity: a block
  // [kRecentTokens] The token at position p lies at p % kRecentTokens.
  std::vector<int32_t> recent_;
  int64_t computed_tokens_ = 0;
  bool stepped_ = false;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STATE_SESSION_STATE_H_
