// SPDX-License-Identifier: Apache-2.0
#include "engine/base/resource_id.h"

#include <string>

#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(ResourceIdTest, IdsAreStrict) {
  EXPECT_TRUE(IsResourceId("a"));
  EXPECT_TRUE(IsResourceId("0.a_B-9"));
  EXPECT_TRUE(IsResourceId(std::string(128, 'a')));
  EXPECT_FALSE(IsResourceId(""));
  EXPECT_FALSE(IsResourceId(".a"));
  EXPECT_FALSE(IsResourceId("a/b"));
  EXPECT_FALSE(IsResourceId("a b"));
  EXPECT_FALSE(IsResourceId("\xc3\xa4"));
  EXPECT_FALSE(IsResourceId(std::string(129, 'a')));
}

}  // namespace
}  // namespace mneme
