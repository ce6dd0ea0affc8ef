// SPDX-License-Identifier: Apache-2.0
#include "client/progress_bar.h"

#include <gtest/gtest.h>

namespace mneme::client {
namespace {

TEST(FormatBytesTest, ChoosesTheUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(int64_t{5} << 50), "5120.0 TiB");
}

TEST(FormatProgressTest, ShowsShareRateAndTimeLeft) {
  EXPECT_EQ(FormatProgress(512, 2048, absl::Seconds(2)),
            "[#######.......................]  25%  512 B of 2.0 KiB  256 B/s  "
            "6s left");
}

TEST(FormatProgressTest, WithoutATotalThereIsNothingToFill) {
  EXPECT_EQ(FormatProgress(2048, std::nullopt, absl::Seconds(1)),
            "2.0 KiB  2.0 KiB/s");
  EXPECT_EQ(FormatProgress(0, 0, absl::ZeroDuration()), "0 B  0 B/s");
}

TEST(FormatProgressTest, MoreThanTheTotalIsFull) {
  EXPECT_EQ(FormatProgress(20, 10, absl::Seconds(1)),
            "[##############################] 100%  20 B of 10 B  20 B/s");
}

}  // namespace
}  // namespace mneme::client
