// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/finite.h"

#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

using Limits = std::numeric_limits<float>;

TEST(AllFiniteTest, ExtremesAreFinite) {
  EXPECT_TRUE(AllFinite({}));
  std::vector<float> values(1000, Limits::max());
  values[7] = Limits::lowest();
  values[8] = Limits::denorm_min();
  values[9] = -0.0f;
  EXPECT_TRUE(AllFinite(values));
}

TEST(AllFiniteTest, OneThatIsNotIsFoundWhereverItIs) {
  for (const size_t size : {1, 15, 16, 17, 40}) {
    for (size_t at = 0; at < size; ++at) {
      for (const float bad :
           {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()}) {
        std::vector<float> values(size, 1.0f);
        values[at] = bad;
        EXPECT_FALSE(AllFinite(values)) << at << " of " << size;
      }
    }
  }
}

}  // namespace
}  // namespace mneme
