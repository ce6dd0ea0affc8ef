// SPDX-License-Identifier: Apache-2.0
#include "server/session_filter.h"

#include <string>

#include "engine/base/errors.h"
#include "gtest/gtest.h"

namespace mneme::server {
namespace {

TEST(SessionFilterTest, TermsAreJoined) {
  const auto filter = ParseSessionFilter(
      "model = models/tiny AND busy = IDLE AND labels.user = a b AND "
      "state_tier=HOT");
  ASSERT_TRUE(filter.ok()) << filter.status();
  EXPECT_EQ(filter->model, "tiny");
  EXPECT_EQ(filter->activity, SessionActivity::kIdle);
  EXPECT_EQ(filter->labels.at("user"), "a b");
  EXPECT_FALSE(filter->nothing);
  EXPECT_EQ(ParseSessionFilter("labels.a = \"1 = x\"")->labels.at("a"),
            "1 = x");
  EXPECT_EQ(filter->tier, StateTier::kHot);
  EXPECT_EQ(ParseSessionFilter("state_tier = COLD")->tier, StateTier::kCold);
  EXPECT_TRUE(
      ParseSessionFilter("state_tier = COLD AND state_tier = HOT")->nothing);
  EXPECT_TRUE(ParseSessionFilter("").ok());
}

TEST(SessionFilterTest, WhatIsNoTermIsNamed) {
  for (const char* text :
       {"x", "model", "model = tiny", "busy = LAZY", "state_tier = WARM",
        "size = 3", "busy = IDLE AND", " AND "}) {
    const auto filter = ParseSessionFilter(text);
    EXPECT_EQ(filter.status().code(), absl::StatusCode::kInvalidArgument)
        << text;
    EXPECT_EQ(GetReason(filter.status())->metadata[0].second, "filter") << text;
  }
  EXPECT_FALSE(ParseSessionFilter(std::string(5000, ' ')).ok());
}

}  // namespace
}  // namespace mneme::server
