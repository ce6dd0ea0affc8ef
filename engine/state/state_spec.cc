// SPDX-License-Identifier: Apache-2.0
#include "engine/state/state_spec.h"

#include <algorithm>
#include <utility>

#include "engine/state/session_state.h"

namespace mneme {

StateLayout::StateLayout(StateSpec spec)
    : spec_(std::move(spec)),
      hidden_{.name = "hidden",
              .kind = PartKind::kRewritten,
              .rows = 1,
              .row_floats = spec_.hidden_floats} {
  auto place = [&](const PartSpec& part) {
    Place& placed =
        parts_.emplace_back(Place{.spec = &part, .offsets = {}, .rooms = {}});
    // A unit has the tokens of one block at most.
    const int64_t block = spec_.block_tokens;
    switch (part.kind) {
      case PartKind::kRewritten:
        placed.rooms[0] = placed.rooms[1] = part.rows;
        break;
      case PartKind::kAppended:
        placed.rooms[0] = part.rows;
        placed.rooms[1] = std::min(part.rows, block);  // when it starts over
        break;
      case PartKind::kRing:
        placed.rooms[0] = part.rows + block;
        break;
    }
    for (int buffer = 0; buffer < 2; ++buffer) {
      placed.offsets[buffer] = total_floats_;
      total_floats_ += (placed.rooms[buffer] * part.row_floats + 15) / 16 * 16;
    }
  };
  for (const LayerSpec& layer : spec_.layers) {
    first_parts_.push_back(part_count());
    for (const PartSpec& part : layer) place(part);
  }
  place(hidden_);
}

int64_t StateLayout::state_bytes() const {
  return total_floats_ * 4 + AlignedBuffer::kAlignment +
         SessionState::BookkeepingBytes(*this);
}

}  // namespace mneme
