// SPDX-License-Identifier: Apache-2.0
#include "server/request_id_table.h"

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "gtest/gtest.h"
#include "mneme/v1/sessions.pb.h"

namespace mneme::server {
namespace {

class FakeClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch() + elapsed; }
  absl::Duration Monotonic() const override { return elapsed; }
  absl::Duration elapsed;
};

std::shared_ptr<RequestIdTable> Make(const RequestIdTable::Options& options) {
  return std::make_shared<RequestIdTable>(options);
}

class RequestIdTableTest : public ::testing::Test {
 protected:
  // The answer to a request for a session; its uid tells the answers apart.
  std::string Ask(RequestIdTable* table, const std::string& id,
                  const std::string& body, absl::Status outcome = {}) {
    v1::CreateSessionRequest request;
    request.set_session_id(body);
    (*request.mutable_session()->mutable_labels())["a"] = "1";
    (*request.mutable_session()->mutable_labels())["b"] = "2";
    v1::Session reply;
    table->Once(
        id, "CreateSession", request, &reply,
        [&](const RequestIdTable::Done& done) {
          reply.set_uid(absl::StrCat(++calls_));
          done(outcome);
        },
        [&](const absl::Status& status) { status_ = status; });
    return status_.ok() ? reply.uid() : "";
  }

  FakeClock clock_;
  int calls_ = 0;
  absl::Status status_;
};

TEST_F(RequestIdTableTest, TheSameRequestGetsTheSameAnswer) {
  const auto table = Make({.clock = &clock_});
  EXPECT_EQ(Ask(table.get(), "r", "x"), "1");
  EXPECT_EQ(Ask(table.get(), "r", "x"), "1");
  EXPECT_EQ(Ask(table.get(), "other", "x"), "2");
}

TEST_F(RequestIdTableTest, WithoutAnIdEveryRequestWorks) {
  const auto table = Make({.clock = &clock_});
  EXPECT_EQ(Ask(table.get(), "", "x"), "1");
  EXPECT_EQ(Ask(table.get(), "", "x"), "2");
}

TEST_F(RequestIdTableTest, AnotherBodyOrMethodIsRefused) {
  const auto table = Make({.clock = &clock_});
  Ask(table.get(), "r", "x");
  Ask(table.get(), "r", "y");
  EXPECT_EQ(status_.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(status_)->reason, "REQUEST_ID_REUSED");
  v1::Session reply;
  table->Once(
      "r", "DeleteSession", v1::DeleteSessionRequest(), &reply,
      [](const RequestIdTable::Done& done) { done(absl::OkStatus()); },
      [&](const absl::Status& status) { status_ = status; });
  EXPECT_EQ(status_.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RequestIdTableTest, TheSecondOfTwoAtOnceWaitsForTheFirst) {
  const auto table = Make({.clock = &clock_});
  const v1::CreateSessionRequest request;
  v1::Session replies[2];
  RequestIdTable::Done finish;
  int finished = 0;
  for (v1::Session& reply : replies) {
    table->Once(
        "r", "CreateSession", request, &reply,
        [&](const RequestIdTable::Done& done) {
          ASSERT_FALSE(finish);
          finish = done;
        },
        [&](const absl::Status& status) {
          EXPECT_TRUE(status.ok());
          ++finished;
        });
  }
  EXPECT_EQ(finished, 0);
  replies[0].set_uid("one");
  finish(absl::OkStatus());
  EXPECT_EQ(finished, 2);
  EXPECT_EQ(replies[1].uid(), "one");
}

TEST_F(RequestIdTableTest, AFailureIsNotRemembered) {
  const auto table = Make({.clock = &clock_});
  Ask(table.get(), "r", "x", absl::UnavailableError("later"));
  EXPECT_EQ(status_.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Ask(table.get(), "r", "x"), "2");
}

TEST_F(RequestIdTableTest, AnAnswerIsKeptForItsTime) {
  const auto table = Make({.keep = absl::Hours(24), .clock = &clock_});
  Ask(table.get(), "r", "x");
  clock_.elapsed += absl::Hours(24) - absl::Seconds(1);
  EXPECT_EQ(Ask(table.get(), "r", "x"), "1");
  clock_.elapsed += absl::Seconds(1);
  EXPECT_EQ(Ask(table.get(), "r", "x"), "2");
}

TEST_F(RequestIdTableTest, TheOldestAnswersGoWhenItIsFull) {
  const auto table = Make({.max_bytes = 2000, .clock = &clock_});
  for (int i = 0; i < 100; ++i) Ask(table.get(), absl::StrCat("r", i), "x");
  EXPECT_EQ(Ask(table.get(), "r99", "x"), "100");
  EXPECT_EQ(Ask(table.get(), "r0", "x"), "101");
}

// What a process before this one remembered.
AnsweredRequest Answered(const std::string& id, absl::Time time) {
  v1::CreateSessionRequest request;
  request.set_session_id("x");
  (*request.mutable_session()->mutable_labels())["a"] = "1";
  (*request.mutable_session()->mutable_labels())["b"] = "2";
  v1::Session reply;
  reply.set_uid("old");
  return {.id = id,
          .digest = RequestDigest("CreateSession", request),
          .reply = reply.SerializeAsString(),
          .time = time};
}

TEST_F(RequestIdTableTest, WhatWasAnsweredBeforeIsAnsweredAlike) {
  const auto table = Make({.clock = &clock_});
  table->Restore({Answered("r", clock_.Now() - absl::Hours(1))});
  EXPECT_EQ(Ask(table.get(), "r", "x"), "old");
  Ask(table.get(), "r", "y");
  EXPECT_EQ(GetReason(status_)->reason, "REQUEST_ID_REUSED");
  clock_.elapsed += absl::Hours(23);
  EXPECT_EQ(Ask(table.get(), "r", "x"), "1");
}

TEST_F(RequestIdTableTest, AClockThatWasSetDoesNotKeepAnswersForEver) {
  const auto table = Make({.clock = &clock_});
  table->Restore({Answered("late", clock_.Now() + absl::Hours(1000)),
                  Answered("old", clock_.Now() - absl::Hours(1000)),
                  Answered("early", clock_.Now() - absl::Hours(1))});
  EXPECT_EQ(Ask(table.get(), "late", "x"), "old");
  EXPECT_EQ(Ask(table.get(), "early", "x"), "old");
  EXPECT_EQ(Ask(table.get(), "old", "x"), "1");
  clock_.elapsed += absl::Hours(24);
  EXPECT_EQ(Ask(table.get(), "late", "x"), "2");
  EXPECT_EQ(Ask(table.get(), "early", "x"), "3");
}

TEST_F(RequestIdTableTest, AnIdHasABoundedLength) {
  const auto table = Make({.clock = &clock_});
  EXPECT_EQ(Ask(table.get(), std::string(64, 'r'), "x"), "1");
  Ask(table.get(), std::string(65, 'r'), "x");
  EXPECT_EQ(status_.code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mneme::server
