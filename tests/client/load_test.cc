// SPDX-License-Identifier: Apache-2.0
#include "client/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "tests/client/fake_server.h"

namespace mneme::client {
namespace {

TEST(LatenciesTest, APercentileIsAMeasuredTimeOfNearestRank) {
  Latencies latencies;
  EXPECT_EQ(latencies.Percentile(0.5), 0);
  for (const int ms : {40, 10, 30, 20}) latencies.Add(absl::Milliseconds(ms));
  EXPECT_EQ(latencies.Percentile(0.5), 20);
  EXPECT_EQ(latencies.Percentile(0.51), 30);
  EXPECT_EQ(latencies.Percentile(0.99), 40);
  EXPECT_EQ(latencies.Percentile(1), 40);
}

class LoadTest : public testing::Test {
 protected:
  absl::StatusOr<LoadResult> Run(FakeServer& server,
                                 const LoadOptions& options) {
    client_ = *Client::Connect(server.address());
    return RunLoad(client_.get(), options, [] { return false; });
  }

  std::unique_ptr<Client> client_;
};

TEST_F(LoadTest, CountsWhatWasAskedForAndDeletesItsSessions) {
  FakeServer server;
  const auto result =
      Run(server, {.sessions = 3, .warm_up = 2, .requests = 10});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->answered, 10);
  EXPECT_EQ(result->first_token.count(), 10);
  // Two more messages of an answer, a token each.
  EXPECT_EQ(result->between_tokens.count(), 20);
  EXPECT_TRUE(result->errors.empty());
  // Three creates and three deletes.
  EXPECT_EQ(server.request_ids().size(), 6u);
}

TEST_F(LoadTest, LatencyCountsFromTheScheduledArrival) {
  // One session, an answer takes at least 20 ms, and a request is due every
  // 2 ms: the tenth is sent 160 ms late and more.
  FakeServer server({.think = absl::Milliseconds(20)});
  const auto result = Run(server, {.sessions = 1,
                                   .arrivals = Arrivals::kConstant,
                                   .requests_per_second = 500,
                                   .warm_up = 0,
                                   .requests = 10});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GE(result->first_token.Percentile(1), 160);
  EXPECT_GE(result->sent_late.Percentile(1), 150);
}

TEST_F(LoadTest, TheSeedDecidesWhatIsAsked) {
  std::vector<std::string> asked[3];
  for (int i = 0; i < 3; ++i) {
    FakeServer server;
    ASSERT_TRUE(Run(server, {.sessions = 1,
                             .warm_up = 0,
                             .requests = 3,
                             .seed = i < 2 ? 7u : 8u})
                    .ok());
    asked[i] = server.prompts();
  }
  EXPECT_EQ(asked[0].size(), 3u);
  EXPECT_EQ(asked[0], asked[1]);
  EXPECT_NE(asked[0], asked[2]);
}

TEST_F(LoadTest, ErrorsAreCountedByCode) {
  FakeServer server({.pieces = 0, .refuse_generate = true});
  const auto result = Run(server, {.sessions = 1, .warm_up = 0, .requests = 4});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->errors.at("RESOURCE_EXHAUSTED"), 4);
  EXPECT_EQ(result->answered, 0);
}

TEST_F(LoadTest, ALoadWithoutEndIsRefused) {
  FakeServer server;
  EXPECT_EQ(Run(server, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mneme::client
