// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_LANE_H_
#define MNEME_ENGINE_RUNTIME_LANE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/model/model.h"
#include "engine/ops/backend.h"
#include "engine/state/session_state.h"

namespace mneme {

// What a state wants from the next pass: its whole tail computed, and some
// logits, or its open memory segment written.
struct Demand {
  enum class Kind {
    kNone,  // nothing now; it will ask to be woken
    kStep,
    kBlock,
  };
  Kind kind = Kind::kNone;
  int64_t rows = 0;           // tokens in the tail
  bool prior_logits = false;  // see ModelSlice
  int64_t logits_begin = 0;
  int64_t logits_end = 0;
  bool commit_segment = false;

  bool none() const { return kind == Kind::kNone; }
  int64_t logit_rows() const {
    return (prior_logits ? 1 : 0) + logits_end - logits_begin;
  }
};

// The demand for the tail of `state`, by the path that its block goes.
inline Demand ComputeTail(const SessionState& state) {
  return {.kind = state.stepped() ? Demand::Kind::kStep : Demand::Kind::kBlock,
          .rows = static_cast<int64_t>(state.tail().size())};
}

// Something that advances one state: a session, or a copy of one for work
// that leaves no trace. The scheduler sees nothing else of them.
//
// The scheduler calls Plan, then for a demand Begin, then Complete, always
// from its one thread; a lane whose Plan had no demand, or whose Begin failed,
// is forgotten until Scheduler::Wake.
class Lane {
 public:
  virtual ~Lane() = default;

  virtual const Model& model() const = 0;

  // Decides what is next, and puts the tokens for it into the tail.
  virtual Demand Plan() = 0;

  // Takes the right to advance the state; false if it can not be had now.
  virtual bool Begin() = 0;
  // REQUIRES: between Begin and Complete.
  virtual SessionState& state() = 0;

  // The pass ended: commits the state, or abandons the unit if `status` is
  // not OK, and gives the right back.
  //   logits  [demand.logit_rows(), vocab_size]
  virtual void Complete(const absl::Status& status, ConstRows logits) = 0;

 private:
  friend class Scheduler;
  bool scheduled_ = false;  // both guarded by the scheduler's mutex
  bool woken_again_ = false;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_LANE_H_
