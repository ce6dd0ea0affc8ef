// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/replayed_tasks.h"

namespace mneme {

Demand OwedAsk::Plan(SessionState& state, HistorySink& /*history*/) {
  // A full block before the Ask goes by the path it would have gone anyway.
  if (state.tail_room() == 0) return ComputeTail(state);
  state.Ask();
  done_ = true;
  return {};
}

Demand ReplayedScoring::Plan(SessionState& state, HistorySink& history) {
  if (!asked_) {
    if (state.tail_room() == 0) return ComputeTail(state);
    state.Ask();
    asked_ = true;
  }
  for (; next_ < replayed_.said.size(); ++next_) {
    if (state.tail_room() == 0) return ComputeTail(state);
    const TakenToken& token = replayed_.said[next_];
    state.PushToken(token.id);
    history.RecordToken(token.id, token.bytes);
  }
  const bool computed =
      replayed_.end.has_value()
          ? state.computed_tokens() >= replayed_.end->computed_tokens
          : replayed_.said.empty();
  if (!state.tail().empty() && !computed) {
    // The end of what is scored is an Ask.
    if (!replayed_.said.empty() && state.tail_room() > 0) state.Ask();
    return ComputeTail(state);
  }
  done_ = true;
  return {};
}

}  // namespace mneme
