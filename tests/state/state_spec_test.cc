// SPDX-License-Identifier: Apache-2.0
#include "engine/state/state_spec.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/state/session_state.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

StateSpec SmallSpec() {
  return {.layers = {{{.name = "weights", .rows = 3, .row_floats = 5},
                      {.name = "factors",
                       .kind = PartKind::kAppended,
                       .rows = 2,
                       .row_floats = 16}},
                     {},
                     {{.name = "window", .rows = 0, .row_floats = 7}}},
          .hidden_floats = 6,
          .block_tokens = 8};
}

TEST(StateLayoutTest, PartsOfAllLayersFollowEachOtherAndHiddenIsTheLast) {
  const StateLayout layout(SmallSpec());
  ASSERT_EQ(layout.part_count(), 4);
  EXPECT_EQ(layout.first_part(0), 0);
  EXPECT_EQ(layout.first_part(1), 2);
  EXPECT_EQ(layout.first_part(2), 2);
  EXPECT_EQ(layout.part(0).name, "weights");
  EXPECT_EQ(layout.part(1).name, "factors");
  EXPECT_EQ(layout.part(2).name, "window");
  EXPECT_EQ(layout.hidden_part(), 3);
  EXPECT_EQ(layout.part(3).kind, PartKind::kRewritten);
  EXPECT_EQ(layout.part(3).rows, 1);
  EXPECT_EQ(layout.part(3).row_floats, 6);
}

TEST(StateLayoutTest, TheTwoBuffersOfEveryPartAreApartAndOnCacheLines) {
  const StateLayout layout(SmallSpec());
  std::vector<std::pair<int64_t, int64_t>> extents;
  for (int64_t part = 0; part < layout.part_count(); ++part) {
    const PartSpec& spec = layout.part(part);
    for (const int buffer : {0, 1}) {
      const int64_t begin = layout.offset(part, buffer);
      EXPECT_EQ(begin % 16, 0);
      extents.emplace_back(begin, begin + spec.rows * spec.row_floats);
    }
  }
  std::sort(extents.begin(), extents.end());
  for (size_t i = 1; i < extents.size(); ++i) {
    EXPECT_LE(extents[i - 1].second, extents[i].first);
  }
  EXPECT_LE(extents.back().second, layout.total_floats());
}

TEST(StateLayoutTest, StateBytesCoverBothBuffersTheTailAndTheObject) {
  const StateLayout layout(SmallSpec());
  int64_t part_floats = 0;
  for (int64_t part = 0; part < layout.part_count(); ++part) {
    part_floats += 2 * layout.part(part).rows * layout.part(part).row_floats;
  }
  EXPECT_GE(layout.total_floats(), part_floats);
  // AlignedBuffer keeps a cache line of slack.
  EXPECT_GE(layout.state_bytes(),
            layout.total_floats() * 4 + AlignedBuffer::kAlignment +
                static_cast<int64_t>(sizeof(SessionState)) +
                8 * static_cast<int64_t>(sizeof(int32_t)));
}

TEST(StateLayoutTest, StateBytesAreLittleMoreThanTheParts) {
  StateSpec spec = SmallSpec();
  spec.layers[0][0].rows = 100'000;
  const StateLayout layout(std::move(spec));
  constexpr int64_t kRingBytes = SessionState::kRecentTokens * 4;
  EXPECT_LT(layout.state_bytes(), 2 * 100'000 * 5 * 4 + kRingBytes + 4096);
}

}  // namespace
}  // namespace mneme
