// SPDX-License-Identifier: Apache-2.0
//
// A session's whole condition at one moment as one piece of bytes, and back.
// engine/state/FORMAT.md has the grammar.
#ifndef MNEME_ENGINE_RUNTIME_SESSION_SNAPSHOT_H_
#define MNEME_ENGINE_RUNTIME_SESSION_SNAPSHOT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/runtime/history.h"
#include "engine/runtime/input_queue.h"
#include "engine/runtime/kept_reply.h"
#include "engine/runtime/served_model.h"
#include "engine/runtime/types.h"
#include "engine/state/session_state.h"

namespace mneme {

// What a snapshot was taken of, and where its history stood.
struct SnapshotHeader {
  std::string model_fingerprint;  // 64 hex digits
  std::string arithmetic_level;
  SessionUnit unit = SessionUnit::kText;
  int64_t offset = 0;    // in the unit
  int64_t position = 0;  // tokens, computed and in the tail

  bool operator==(const SnapshotHeader&) const = default;
};

// A snapshot in its pieces, each as its class encodes it. The pieces belong to
// whoever holds the bytes that were decoded.
struct SessionSnapshot {
  SnapshotHeader header;
  std::string_view history;  // History
  std::string_view input;    // InputQueue
  std::string_view reply;    // KeptReply; empty: there is none
  std::string_view state;    // SessionState
};

// The bytes of a snapshot.
std::string EncodeSnapshot(const SessionSnapshot& snapshot);

// The same of `state`, of which no unit is open, instead of the piece of that
// name: into `out`, whose memory is used again, in one allocation at most.
void EncodeSnapshot(const SessionSnapshot& beside, const SessionState& state,
                    std::string& out);

// The pieces of `bytes`, checksums compared, contents not looked into.
// DATA_LOSS if one is wrong; FAILED_PRECONDITION (STATE_INCOMPATIBLE) for a
// newer version.
absl::StatusOr<SessionSnapshot> DecodeSnapshot(std::string_view bytes);

// A session's parts but for its state. The model outlives them.
struct RestoredSession {
  History history;
  InputQueue input;
  absl::optional<KeptReply> reply;
};

// Makes of `snapshot` what was encoded; `state`, which the model made, becomes
// its state, and with an error as Model::ResetState makes it.
// FAILED_PRECONDITION (STATE_INCOMPATIBLE) if it was taken of another model;
// DATA_LOSS if a piece is wrong, or they do not go together. The arithmetic
// level may be another.
absl::StatusOr<RestoredSession> RestoreSnapshot(
    const SessionSnapshot& snapshot,
    const std::shared_ptr<const ServedModel>& model, SessionState& state);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SESSION_SNAPSHOT_H_
