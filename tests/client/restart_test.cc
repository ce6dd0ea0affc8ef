// SPDX-License-Identifier: Apache-2.0
//
// Calls to a server that was away and is back.
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/status.h"
#include "tests/client/fake_server.h"

namespace mneme::client {
namespace {

// Long enough for any machine, and far below the waits that are cut short.
constexpr absl::Duration kPatience = absl::Seconds(30);

class RestartTest : public testing::Test {
 protected:
  ~RestartTest() override { unlink(path_.c_str()); }

  void Start() {
    server_ = std::make_unique<FakeServer>(
        FakeOptions{.address = absl::StrCat("unix:", path_)});
  }

  const std::string path_ =
      absl::StrCat(testing::TempDir(), "/mneme_restart_", getpid());
  std::unique_ptr<FakeServer> server_;
};

absl::Status Generate(Client& client) {
  v1::GenerateRequest request;
  request.set_session("sessions/there");
  return client.Generate(request, [](const auto&) { return absl::OkStatus(); })
      .status();
}

TEST_F(RestartTest, AnAppendGoesOnWithoutWaitingToTheEnd) {
  const auto client = *Client::Connect(
      absl::StrCat("unix:", path_), {.first_backoff = absl::Hours(1),
                                     .resume_for = absl::Hours(10),
                                     .longest_resume_backoff = absl::Hours(1)});
  absl::Notification waits;
  absl::Notification ended;
  absl::StatusOr<AppendResult> result;
  std::thread append([&] {
    std::string text = "abc";
    result = client->AppendText(
        "sessions/a", [&](int64_t) { return std::exchange(text, ""); },
        {.on_break = [&](const absl::Status&, absl::Duration) {
          waits.Notify();
        }});
    ended.Notify();
  });
  waits.WaitForNotification();
  Start();
  if (!ended.WaitForNotificationWithTimeout(kPatience)) client->CancelAll();
  append.join();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(server_->history(), "abc");
}

TEST_F(RestartTest, ACallIsMadeAgainAsSoonAsTheServerIsThere) {
  const auto client = *Client::Connect(absl::StrCat("unix:", path_),
                                       {.metadata_timeout = absl::Hours(10),
                                        .first_backoff = absl::Hours(1),
                                        .longest_backoff = absl::Hours(1)});
  // Its first attempt has failed.
  EXPECT_TRUE(IsUnreachable(Generate(*client)));
  absl::Notification ended;
  absl::StatusOr<v1::Session> session;
  std::thread call([&] {
    v1::GetSessionRequest request;
    request.set_name("sessions/there");
    session = client->GetSession(request);
    ended.Notify();
  });
  Start();
  if (!ended.WaitForNotificationWithTimeout(kPatience)) client->CancelAll();
  call.join();
  EXPECT_TRUE(session.ok()) << session.status();
}

// A generation is not made again by the client. Calls that only repeat what the
// last dial found fail in no time, all of them before there is another dial.
TEST_F(RestartTest, ACallThatIsNotMadeAgainLooksForTheServer) {
  const auto client = *Client::Connect(absl::StrCat("unix:", path_));
  EXPECT_TRUE(IsUnreachable(Generate(*client)));
  Start();
  absl::Status status;
  for (int call = 0; call < 100; ++call) {
    status = Generate(*client);
    if (status.ok()) break;
  }
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace mneme::client
