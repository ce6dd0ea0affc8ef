// SPDX-License-Identifier: Apache-2.0
#include "client/client.h"

#include <gtest/gtest.h>

#include <thread>

#include "client/conversation.h"
#include "client/status.h"
#include "tests/client/fake_server.h"

namespace mneme::client {
namespace {

std::unique_ptr<Client> ConnectTo(const FakeServer& server,
                                  const ClientOptions& options = {}) {
  return *Client::Connect(server.address(), options);
}

v1::GetSessionRequest Named(const std::string& name) {
  v1::GetSessionRequest request;
  request.set_name(name);
  return request;
}

TEST(ClientTest, WhatIsNoAddressIsRefused) {
  for (const char* address : {"", "garbage", ":7600", "host:", "host:0",
                              "host:99999", "host:-1", "host:x"}) {
    EXPECT_EQ(Client::Connect(address).status().code(),
              absl::StatusCode::kInvalidArgument)
        << address;
  }
}

TEST(ClientTest, NoServerIsUnreachableAndNotAnAnswer) {
  const auto client = *Client::Connect("unix:no-such-socket");
  const auto session = client->GetSession(Named("sessions/a"));
  EXPECT_TRUE(IsUnreachable(session.status())) << session.status();
}

TEST(ClientTest, AnAnswerIsHandedOut) {
  FakeServer server;
  const auto session = ConnectTo(server)->GetSession(Named("sessions/there"));
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(session->name(), "sessions/there");
}

TEST(ClientTest, AnErrorKeepsItsCodeAndReason) {
  FakeServer server;
  const auto session = ConnectTo(server)->GetSession(Named("sessions/gone"));
  EXPECT_EQ(session.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(session.status()), "SESSION_NOT_FOUND");
  EXPECT_FALSE(IsUnreachable(session.status()));
}

TEST(ClientTest, WhatTheServerDoesNotHaveIsUnimplemented) {
  FakeServer server;
  EXPECT_EQ(ConnectTo(server)->ListModels({}).status().code(),
            absl::StatusCode::kUnimplemented);
}

TEST(ClientTest, AMetadataCallHasADeadline) {
  FakeServer server;
  const auto client =
      ConnectTo(server, {.metadata_timeout = absl::Milliseconds(50)});
  const auto session = client->GetSession(Named("sessions/slow"));
  EXPECT_EQ(session.status().code(), absl::StatusCode::kDeadlineExceeded);
  server.release().Notify();
}

TEST(ClientTest, GenerateHandsOutEveryPieceInOrder) {
  FakeServer server;
  v1::GenerateRequest request;
  request.set_text("x");
  std::string text;
  int messages = 0;
  const auto finished = ConnectTo(server)->Generate(
      request, [&](const v1::GenerateResponse& response) {
        ++messages;
        text += response.text();
        return absl::OkStatus();
      });
  ASSERT_TRUE(finished.ok()) << finished.status();
  EXPECT_EQ(text, "x0x1x2");
  EXPECT_EQ(messages, 5);
  EXPECT_EQ(finished->finish_reason(), v1::GenerateResponse::Finished::LENGTH);
}

TEST(ClientTest, AnErrorOfTheListenerCancelsTheGeneration) {
  FakeServer server({.pieces = -1});
  const auto finished =
      ConnectTo(server)->Generate({}, [](const v1::GenerateResponse&) {
        return absl::DataLossError("pipe is closed");
      });
  EXPECT_EQ(finished.status().code(), absl::StatusCode::kDataLoss);
  server.cancelled().WaitForNotification();
}

TEST(ClientTest, CancelAllEndsWhatRunsAndWhatComesLater) {
  FakeServer server({.pieces = -1});
  const auto client = ConnectTo(server);
  absl::Notification running;
  std::thread canceller([&] {
    running.WaitForNotification();
    client->CancelAll();
  });
  const auto finished = client->Generate({}, [&](const v1::GenerateResponse&) {
    if (!running.HasBeenNotified()) running.Notify();
    return absl::OkStatus();
  });
  canceller.join();
  EXPECT_EQ(finished.status().code(), absl::StatusCode::kCancelled);
  server.cancelled().WaitForNotification();
  EXPECT_EQ(client->GetSession(Named("sessions/there")).status().code(),
            absl::StatusCode::kCancelled);
}

TEST(ClientTest, CancelRunningLeavesLaterCallsAlone) {
  FakeServer server({.pieces = -1});
  const auto client = ConnectTo(server);
  const auto finished = client->Generate({}, [&](const v1::GenerateResponse&) {
    client->CancelRunning();
    return absl::OkStatus();
  });
  EXPECT_EQ(finished.status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(client->GetSession(Named("sessions/there")).ok());
}

TEST(ClientTest, TheTokenizerIsAskedByModel) {
  FakeServer server;
  v1::TokenizeRequest request;
  request.set_text("ab");
  const auto tokens = ConnectTo(server)->Tokenize(request);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->tokens_size(), 2);
  EXPECT_EQ(tokens->tokens(0), 'a');
}

TEST(ConversationTest, ATurnIsAppendedAndThenAnswered) {
  FakeServer server;
  const auto client = ConnectTo(server);
  Conversation conversation(client.get(), {});
  std::string answer;
  for (const char* text : {"Hello\n", "Again\n"}) {
    const auto finished =
        conversation.Turn(text, [&](const v1::GenerateResponse& response) {
          answer += response.text();
          return absl::OkStatus();
        });
    ASSERT_TRUE(finished.ok()) << finished.status();
  }
  EXPECT_EQ(server.history(), "Hello\nAgain\n");
  EXPECT_EQ(answer, "012012");
}

TEST(ConversationTest, AnInterruptEndsTheTurnOnly) {
  FakeServer server({.pieces = -1});
  const auto client = ConnectTo(server);
  Conversation conversation(client.get(), {});
  for (int turn = 0; turn < 2; ++turn) {
    const auto finished =
        conversation.Turn("x", [&](const v1::GenerateResponse&) {
          conversation.Interrupt();
          return absl::OkStatus();
        });
    EXPECT_EQ(finished.status().code(), absl::StatusCode::kCancelled);
  }
  EXPECT_EQ(server.history(), "xx");
}

TEST(ClientTest, AScoreAddsUpWhateverTheMessages) {
  for (const int64_t message_bytes : {1, 3, 100}) {
    FakeServer server;
    std::string rest = "abcdefg";
    int messages = 0;
    ScoreOptions options{.message_bytes = message_bytes};
    options.on_response = [&](const v1::ScoreResponse&) { ++messages; };
    const auto result = ConnectTo(server)->ScoreText(
        {},
        [&](int64_t max_bytes) -> absl::StatusOr<std::string> {
          std::string piece = rest.substr(0, static_cast<size_t>(max_bytes));
          rest.erase(0, piece.size());
          return piece;
        },
        options);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->totals.tokens_scored(), 7);
    EXPECT_EQ(result->totals.bytes(), 7);
    EXPECT_EQ(result->finished.next_offset(), 42);
    EXPECT_EQ(messages, (7 + message_bytes - 1) / message_bytes + 1);
  }
}

TEST(ClientTest, AScoreOfABrokenSourceIsItsError) {
  FakeServer server;
  const auto result = ConnectTo(server)->ScoreTokens(
      {}, [](int64_t) -> absl::StatusOr<std::vector<int32_t>> {
        return absl::InvalidArgumentError("no number");
      });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mneme::client
