// SPDX-License-Identifier: Apache-2.0
//
// The state that tests/golden/state/make_golden.py writes by hand.
#ifndef MNEME_TESTS_SUPPORT_GOLDEN_STATE_H_
#define MNEME_TESTS_SUPPORT_GOLDEN_STATE_H_

#include <algorithm>
#include <memory>

#include "engine/state/session_state.h"

namespace mneme {

inline std::shared_ptr<const StateLayout> GoldenLayout() {
  return std::make_shared<StateLayout>(
      StateSpec{.layers = {{{.name = "weights", .rows = 2, .row_floats = 3},
                            {.name = "factors",
                             .kind = PartKind::kAppended,
                             .rows = 4,
                             .row_floats = 2}},
                           {{.name = "ring",
                             .kind = PartKind::kRing,
                             .rows = 3,
                             .row_floats = 2},
                            {.name = "sinks",
                             .kind = PartKind::kAppended,
                             .rows = 2,
                             .row_floats = 1,
                             .starts_over = false}}},
                .hidden_floats = 2,
                .block_tokens = 4});
}

// Takes the next token as a model would, with numbers that tell parts, rows and
// tokens apart.
inline void AddGoldenToken(SessionState& state) {
  const int64_t position = state.position();
  const auto value = static_cast<float>(position);
  state.PushToken(static_cast<int32_t>(100 + position));
  std::fill_n(state.spare(0), 6, value + 0.5f);
  state.Replace(0, 2);
  if (state.rows(1) < 3) {
    float* const row = state.mutable_contents(1) + state.rows(1) * 2;
    std::fill_n(row, 2, -value);
    state.Append(1, 1);
  } else {
    state.Replace(1, 0);
  }
  std::fill_n(state.ring(2) + position % state.ring_rows(2) * 2, 2, value);
  if (state.rows(3) < 2) {
    state.mutable_contents(3)[state.rows(3)] = value - 0.25f;
    state.Append(3, 1);
  }
  std::fill_n(state.spare(4), 2, 1000 + value);
  state.Replace(4, 1);
  state.Commit();
}

// 1030 computed tokens, which is more than the ring of recent ones holds, the
// open block stepped, and one token that waits.
inline std::unique_ptr<SessionState> GoldenState() {
  std::unique_ptr<SessionState> state = *SessionState::Create(GoldenLayout());
  for (int i = 0; i < 1030; ++i) AddGoldenToken(*state);
  state->Ask();
  state->PushToken(7);
  return state;
}

}  // namespace mneme

#endif  // MNEME_TESTS_SUPPORT_GOLDEN_STATE_H_
