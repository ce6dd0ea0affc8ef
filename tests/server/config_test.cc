// SPDX-License-Identifier: Apache-2.0
#include "server/config.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(ConfigTest, SizesAreReadExactly) {
  EXPECT_EQ(*ParseSize("4096"), 4096);
  EXPECT_EQ(*ParseSize("512M"), 512 << 20);
  EXPECT_EQ(*ParseSize("2G"), int64_t{2} << 30);
  EXPECT_EQ(*ParseSize("1k"), 1024);
  for (const char* text :
       {"", "0", "-1", "G", "1.5G", "5X", "1 G", "99999999T", "0x10", "1GG"}) {
    EXPECT_FALSE(ParseSize(text).ok()) << text;
  }
}

TEST(ConfigTest, TheDefaultsNeedOnlyAModel) {
  Flags flags;
  flags.models = {"tiny=/models/tiny=1"};
  const auto config = ParseFlags(flags);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->models[0].first, "tiny");
  EXPECT_EQ(config->models[0].second, "/models/tiny=1");
  EXPECT_EQ(config->listen, "127.0.0.1:7600");
  EXPECT_EQ(config->metrics_listen, "127.0.0.1:7601");
}

TEST(ConfigTest, MetricsCanBeSwitchedOff) {
  Flags flags;
  flags.models = {"tiny=x"};
  flags.metrics_listen = "none";
  EXPECT_TRUE(ParseFlags(flags)->metrics_listen.empty());
}

TEST(ConfigTest, EveryMistakeIsToldAtOnce) {
  Flags flags;
  flags.listen = "nonsense";
  flags.metrics_listen = "host:99999";
  flags.data_dir = "/data";
  flags.models = {"=x", "a=x", "a=y"};
  flags.session_memory = "lots";
  flags.threads = -1;
  flags.drain_timeout_seconds = -1;
  EXPECT_THAT(
      std::string(ParseFlags(flags).status().message()),
      AllOf(HasSubstr("--listen"), HasSubstr("--metrics-listen"),
            HasSubstr("--data-dir"), HasSubstr("--model: found \"=x\""),
            HasSubstr("\"a\" came twice"), HasSubstr("--session-memory"),
            HasSubstr("--threads"), HasSubstr("--drain-timeout")));
}

TEST(ConfigTest, NoModelIsRefused) {
  EXPECT_THAT(std::string(ParseFlags({}).status().message()),
              HasSubstr("no bundled model"));
}

}  // namespace
}  // namespace mneme::server
