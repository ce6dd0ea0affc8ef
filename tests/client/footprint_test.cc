// SPDX-License-Identifier: Apache-2.0
#include "client/footprint.h"

#include <string>

#include "gtest/gtest.h"

namespace mneme::client {
namespace {

int64_t Published(const std::string& name, int64_t tokens) {
  for (const PublishedSystem& system : PublishedSystems()) {
    if (system.name == name) return system.floats(tokens);
  }
  ADD_FAILURE() << name;
  return 0;
}

// The sizes that the paper prints, in Tables 1 and 2.
TEST(FootprintTest, ThePublishedSizesComeOut) {
  constexpr int64_t kLong = 1'000'000;
  EXPECT_EQ(Published("Infini-Transformer", kLong), 1'585'152);
  EXPECT_EQ(Published("Transformer-XL", kLong), 50'331'648);
  EXPECT_EQ(Published("RMT", kLong), 2'457'600);
  EXPECT_EQ(Published("Memorizing Transformers", kLong) / 1'000'000, 183);
  EXPECT_EQ(Published("plain KV cache", kLong), 24'576 * kLong);
  const PublishedRatio ratio = InfiniRatio();
  EXPECT_NEAR(ratio.printed, 114, 0.5);
  EXPECT_NEAR(ratio.exact, 115.7, 0.05);
}

TEST(FootprintTest, AShortStreamFillsNothing) {
  EXPECT_EQ(Published("Transformer-XL", 1), 24'576);
  EXPECT_EQ(Published("Infini-Transformer", 1), 1'585'152);
}

TEST(FootprintTest, AStateCountsItsRowsAsTheyCome) {
  v1::Model model;
  model.set_layers(3);
  model.set_model_dim(8);
  const auto add = [&model](v1::StatePart::Growth growth, int64_t rows,
                            int64_t floats, int layers) {
    v1::StatePart& part = *model.add_state_parts();
    part.set_growth(growth);
    part.set_rows(rows);
    part.set_row_floats(floats);
    part.set_layers(layers);
  };
  add(v1::StatePart::FIXED, 10, 7, 3);
  add(v1::StatePart::SEGMENT, 100, 2, 2);
  add(v1::StatePart::WINDOW, 50, 5, 1);
  EXPECT_EQ(StateFloats(model, 0), 210);
  EXPECT_EQ(StateFloats(model, 20), 210 + 80 + 100);
  EXPECT_EQ(StateFloats(model, 70), 210 + 280 + 250);
  EXPECT_EQ(StateFloats(model, 1'000'000), 210 + 400 + 250);
  EXPECT_EQ(KeyValueFloats(model, 1000), 2 * 3 * 8 * 1000);
}

}  // namespace
}  // namespace mneme::client
