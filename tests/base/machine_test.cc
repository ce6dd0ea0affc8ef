// SPDX-License-Identifier: Apache-2.0
#include "engine/base/machine.h"

#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(MachineTest, AQuotaGrantsItsWholeCores) {
  EXPECT_EQ(CoresOfQuota("200000 100000"), 2);
  EXPECT_EQ(CoresOfQuota("250000 100000"), 2);
  EXPECT_EQ(CoresOfQuota("50000 100000"), 1);
  EXPECT_EQ(CoresOfQuota("max 100000"), 0);
  for (const char* line : {"", "7", "-1 100000", "100000 0", "one two"}) {
    EXPECT_EQ(CoresOfQuota(line), 0) << line;
  }
}

TEST(MachineTest, ThereIsSomething) {
  EXPECT_GE(CoreCount(), 1);
  EXPECT_GT(MemoryBytes(), int64_t{1} << 20);
}

}  // namespace
}  // namespace mneme
