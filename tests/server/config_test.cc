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
  const auto config = ReadConfig({.models = {"tiny=/models/tiny=1"}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->models.at("tiny").directory, "/models/tiny=1");
  EXPECT_TRUE(config->models.at("tiny").load);
  EXPECT_EQ(config->listen, "127.0.0.1:7600");
  EXPECT_EQ(config->metrics_listen, "127.0.0.1:7601");
  EXPECT_EQ(config->admin_listen, "127.0.0.1:7602");
  EXPECT_TRUE(ReadConfig({.model_root = "/models"}).ok());
}

TEST(ConfigTest, KeysOfModelsAreLaidOverTheirConfigs) {
  const auto config = ParseConfig(
      {.models = {"tiny=x"}, .model_settings = {{"infini_gate", "-inf"}}},
      "attention_window = 4096\ninfini_gate = 0.5\n", "file");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model_settings.at("attention_window"), "4096");
  EXPECT_EQ(config->model_settings.at("infini_gate"), "\"-inf\"");
  EXPECT_EQ(
      std::stod(ReadConfig({.models = {"tiny=x"},
                            .model_settings = {{"infini_gate", "0.123456789"}}})
                    ->model_settings.at("infini_gate")),
      0.123456789);
  // And are printed so that they read back.
  const auto again = ParseConfig({}, ToToml(*config), "printed");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, *config);

  const auto wrong = ParseConfig(
      {.models = {"tiny=x"}, .model_settings = {{"attention_sinks", "-1"}}},
      "attention_limit = \"many\"\ninfini_gate = nan\n", "file");
  EXPECT_THAT(std::string(wrong.status().message()),
              AllOf(HasSubstr("attention_limit"), HasSubstr("an integer"),
                    HasSubstr("infini_gate"),
                    HasSubstr("--attention-sinks: found \"-1\"")));
}

TEST(ConfigTest, MetricsAndAdminCanBeSwitchedOff) {
  const auto config = ReadConfig(
      {.metrics_listen = "none", .admin_listen = "none", .models = {"tiny=x"}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->metrics_listen.empty());
  EXPECT_TRUE(config->admin_listen.empty());
}

TEST(ConfigTest, EveryMistakeIsToldAtOnce) {
  const Flags flags{.listen = "nonsense",
                    .metrics_listen = "host:99999",
                    .admin_listen = "unix:" + std::string(200, 'x'),
                    .data_dir = "",
                    .session_memory = "lots",
                    .session_store_size = "0",
                    .snapshot_interval = "0",
                    .snapshots_kept = "few",
                    .store_size = "1.5G",
                    .threads = "many",
                    .drain_timeout = "-1",
                    .models = {"=x", "a=x", "a=y"}};
  EXPECT_THAT(
      std::string(ReadConfig(flags).status().message()),
      AllOf(HasSubstr("--listen"), HasSubstr("--metrics-listen"),
            HasSubstr("--admin-listen: found \"unix:xxx"),
            HasSubstr("a path of 200 bytes"), HasSubstr("--data-dir"),
            HasSubstr("--model: found \"=x\""), HasSubstr("\"a\" came twice"),
            HasSubstr("--session-memory"), HasSubstr("--threads"),
            HasSubstr("--drain-timeout"),
            HasSubstr("--session-store-size: found \"0\""),
            HasSubstr("--snapshot-interval: found 0, wanted 1 to"),
            HasSubstr("--snapshots-kept: found few"),
            HasSubstr("--store-size: found \"1.5G\"")));
}

TEST(ConfigTest, ListenersNeedAddressesOfTheirOwn) {
  const auto config = ReadConfig({.listen = "127.0.0.1:7000",
                                  .metrics_listen = "127.0.0.1:0",
                                  .admin_listen = "127.0.0.1:7000",
                                  .models = {"tiny=/tiny"}});
  EXPECT_THAT(std::string(config.status().message()),
              testing::HasSubstr("admin_listen: found \"127.0.0.1:7000\", "
                                 "wanted another than that of listen"));
  EXPECT_TRUE(ReadConfig({.listen = "127.0.0.1:0",
                          .metrics_listen = "127.0.0.1:0",
                          .models = {"tiny=/tiny"}})
                  .ok());
}

TEST(ConfigTest, NoModelIsRefused) {
  EXPECT_THAT(std::string(ReadConfig({}).status().message()),
              HasSubstr("no bundled model"));
}

constexpr char kFile[] = R"(
listen = "unix:/run/mneme.sock"
metrics_listen = "none"
session_memory = "2G"
threads = 3
ephemeral = true
data_dir = "/srv/sessions"
store_size = 1000
session_store_size = "1M"
snapshot_interval = 100
snapshots_kept = 3
salvage = true
drain_timeout = 1.5
model_root = "/srv/models"
[models]
tiny = "/m/tiny"
spare = { path = "/m/spare", load = false }
)";

TEST(ConfigTest, AFileSaysTheSameAsFlags) {
  const auto config = ParseConfig({}, kFile, "f");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listen, "unix:/run/mneme.sock");
  EXPECT_EQ(config->metrics_listen, "");
  EXPECT_EQ(config->admin_listen, "127.0.0.1:7602");
  EXPECT_EQ(config->session_memory_bytes, int64_t{2} << 30);
  EXPECT_EQ(config->threads, 3);
  EXPECT_TRUE(config->ephemeral);
  EXPECT_EQ(config->data_dir, "/srv/sessions");
  EXPECT_EQ(config->store_bytes, 1000);
  EXPECT_EQ(config->session_store_bytes, 1 << 20);
  EXPECT_EQ(config->snapshot_interval_tokens, 100);
  EXPECT_EQ(config->snapshots_kept, 3);
  EXPECT_TRUE(config->salvage);
  EXPECT_EQ(config->drain_timeout, absl::Milliseconds(1500));
  EXPECT_EQ(config->model_root, "/srv/models");
  EXPECT_EQ(config->models.at("tiny").directory, "/m/tiny");
  EXPECT_FALSE(config->models.at("spare").load);
}

TEST(ConfigTest, FlagsOverrideTheFile) {
  const auto config = ParseConfig({.listen = "127.0.0.1:1",
                                   .data_dir = "/flag",
                                   .snapshots_kept = "9",
                                   .threads = "0",
                                   .ephemeral = false,
                                   .salvage = false,
                                   .models = {"tiny=/other", "more=/more"}},
                                  kFile, "f");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listen, "127.0.0.1:1");
  EXPECT_EQ(config->threads, 0);
  EXPECT_FALSE(config->ephemeral);
  EXPECT_FALSE(config->salvage);
  EXPECT_EQ(config->data_dir, "/flag");
  EXPECT_EQ(config->snapshots_kept, 9);
  EXPECT_EQ(config->models.at("tiny").directory, "/other");
  EXPECT_EQ(config->models.at("more").directory, "/more");
  EXPECT_EQ(config->models.size(), 3u);
  EXPECT_EQ(config->session_memory_bytes, int64_t{2} << 30);
}

TEST(ConfigTest, WhatIsPrintedReadsTheSame) {
  const auto config = ParseConfig({}, kFile, "f");
  ASSERT_TRUE(config.ok()) << config.status();
  const auto again = ParseConfig({}, ToToml(*config), "again");
  ASSERT_TRUE(again.ok()) << again.status() << ToToml(*config);
  EXPECT_EQ(*again, *config) << ToToml(*config);
  EXPECT_EQ(ToSettings(*config).at("threads"), "3");
}

TEST(ConfigTest, SessionsAreKeptWhereServicesAndUsersKeepState) {
  EXPECT_EQ(*DefaultDataDir({.state_directory = "/var/lib/a:/var/lib/b",
                             .xdg_state_home = "/x",
                             .home = "/h",
                             .root = true}),
            "/var/lib/a");
  EXPECT_EQ(*DefaultDataDir({.home = "/root", .root = true}), "/var/lib/mneme");
  EXPECT_EQ(*DefaultDataDir({.xdg_state_home = "/x", .home = "/h"}),
            "/x/mneme");
  EXPECT_EQ(*DefaultDataDir({.xdg_state_home = "x", .home = "/h"}),
            "/h/.local/state/mneme");
  EXPECT_THAT(std::string(DefaultDataDir({}).status().message()),
              HasSubstr("--data-dir"));
  EXPECT_FALSE(ReadConfig({.models = {"tiny=x"}})->data_dir.empty());
  EXPECT_TRUE(
      ReadConfig({.ephemeral = true, .models = {"tiny=x"}})->data_dir.empty());
}

TEST(ConfigTest, MistakesInAFileAreToldWithTheirPlaces) {
  const std::string text = R"(lissten = "x"
threads = "two"
drain_timeout = true
ephemeral = 1
metrics_listen = "unix:/x"
session_memory = -5
data_dir = ""
snapshots_kept = "2"
snapshot_interval = 0
salvage = "yes"
store_size = true
[models]
"a b" = "/x"
c = 3
d = { path = "", loud = 1 }
)";
  EXPECT_THAT(
      std::string(ParseConfig({.threads = "-1"}, text, "f").status().message()),
      AllOf(HasSubstr("f:1:1: lissten: there is no such setting; the nearest "
                      "is listen"),
            HasSubstr("f:2:1: threads: found string, wanted an integer"),
            HasSubstr("f:3:1: drain_timeout: found boolean"),
            HasSubstr("f:4:1: ephemeral: found integer"),
            HasSubstr("f:5:1: metrics_listen: found \"unix:/x\""),
            HasSubstr("f:6:1: session_memory: found \"-5\""),
            HasSubstr("f:7:1: data_dir"),
            HasSubstr("f:8:1: snapshots_kept: found string"),
            HasSubstr("f:9:1: snapshot_interval: found 0"),
            HasSubstr("f:10:1: salvage: found string"),
            HasSubstr("f:11:1: store_size: found boolean"),
            HasSubstr("f:13:1: models.a b: found the name \"a b\""),
            HasSubstr("f:14:1: models.c: found integer"),
            HasSubstr("models.d.loud: there is no such setting"),
            HasSubstr("--threads: found -1")));
  EXPECT_THAT(
      std::string(ParseConfig({}, "listen = \n", "f").status().message()),
      HasSubstr("f:1:"));
  EXPECT_THAT(
      std::string(ReadConfig({.config = "/none.toml"}).status().message()),
      HasSubstr("--config: cannot open /none.toml"));
}

}  // namespace
}  // namespace mneme::server
