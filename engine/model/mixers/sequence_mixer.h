// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_MIXERS_SEQUENCE_MIXER_H_
#define MNEME_ENGINE_MODEL_MIXERS_SEQUENCE_MIXER_H_

#include <cstdint>
#include <string_view>

#include "engine/model/pass.h"
#include "engine/ops/backend.h"
#include "engine/state/session_state.h"

namespace mneme {

// The part of a layer that carries memory from token to token. Immutable and
// thread-safe: it keeps nothing; what it remembers is in the states.
class SequenceMixer {
 public:
  virtual ~SequenceMixer() = default;

  // "ttt_linear", "infini_delta"
  virtual std::string_view kind() const = 0;

  virtual LayerSpec state_spec() const = 0;

  // Tokens after which the mixer rewrites its memory; 0 if it has no such
  // granularity.
  virtual int64_t segment_tokens() const = 0;

  // Bytes of weights held, and of tables that follow from the config.
  virtual int64_t weight_bytes() const = 0;

  // Gives the parts of a new session, which are zero, their first contents.
  // `first_part`: where this mixer's parts begin in the state.
  virtual void InitialiseState(int64_t first_part,
                               SessionState& state) const = 0;

  // Whether the parts of `state` have as many rows as its history gives them,
  // as far as Forward relies on that.
  virtual bool HasRightRows(int64_t /*first_part*/,
                            const SessionState& /*state*/) const {
    return true;
  }

  // Scratch that Forward takes in a pass of at most `rows`.
  virtual int64_t scratch_bytes(int64_t rows) const = 0;

  // y [rows, model_dim] = what this mixer makes of h [rows, model_dim] and
  // the states, whose parts it advances in their open units.
  virtual void Forward(const Pass& pass, int64_t first_part, ConstRows h,
                       Rows y) const = 0;

  // Whether the memory is written a segment at a time, and an open segment
  // can be written before it is full.
  virtual bool commits_segments() const { return false; }
  // Tokens of the open segment.
  virtual int64_t open_tokens(int64_t /*first_part*/,
                              const SessionState& /*state*/) const {
    return 0;
  }
  // Writes the open segment, in the state's open unit.
  virtual void CommitSegment(Backend& /*backend*/, int64_t /*first_part*/,
                             SessionState& /*state*/) const {}
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MIXERS_SEQUENCE_MIXER_H_
