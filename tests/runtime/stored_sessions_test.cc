// SPDX-License-Identifier: Apache-2.0
//
// What is done with sessions that are stored: by an engine in a directory, and
// by the next one that finds it.
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/runtime/engine_fixture.h"
#include "tests/support/engine_driver.h"

namespace mneme {
namespace {

using absl::StatusCode;

class StoredSessionsTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    Restart();
  }

  void TearDown() override { engine_.reset(); }  // before its directory

  // As after a clean end.
  void Restart() {
    StartEngine({.threads = 1,
                 .data_directory = data_dir_.path(),
                 .snapshot_interval_tokens = 200});
  }

  // The digests of a session that was given `text` and nothing else.
  std::string DigestsOf(const std::string& text) {
    Create("fresh");
    EXPECT_THAT(AppendAll(*engine_, "fresh", text), IsOk());
    const std::string digests = Digests("fresh");
    EXPECT_THAT(engine_->DeleteSession("fresh", ""), IsOk());
    return digests;
  }
  std::string Digests(const std::string& id) {
    const absl::StatusOr<SessionInfo> info = Describe(*engine_, id);
    EXPECT_THAT(info, IsOk());
    return info.ok() ? info->state_digest + info->history_digest : "";
  }

  static std::string Text(int bytes, char first) {
    std::string text;
    for (int i = 0; i < bytes; ++i) {
      text.push_back(static_cast<char>(first + i * 7 % 13));
    }
    return text;
  }

  TempDir data_dir_;
};

TEST_F(StoredSessionsTest, AreFoundAgainAsTheyWere) {
  Create("s");
  ASSERT_THAT(AppendAll(*engine_, "s", Text(777, 'a')), IsOk());
  ASSERT_THAT(engine_->UpdateSession(
                  {.session = "s",
                   .labels = std::map<std::string, std::string>{{"k", "v"}}}),
              IsOk());
  const SessionInfo before = *Describe(*engine_, "s");
  Restart();
  const SessionInfo after = *Describe(*engine_, "s");
  EXPECT_EQ(after.uid, before.uid);
  EXPECT_EQ(after.state_digest, before.state_digest);
  EXPECT_EQ(after.history_digest, before.history_digest);
  EXPECT_EQ(after.position, before.position);
  EXPECT_EQ(after.durable_offset, 777);
  EXPECT_EQ(after.labels, before.labels);
  ASSERT_THAT(AppendAll(*engine_, "s", Text(50, 'k')), IsOk());
  EXPECT_EQ(Digests("s"), DigestsOf(Text(777, 'a') + Text(50, 'k')));
}

TEST_F(StoredSessionsTest, AForkAndItsParentDoNotSeeEachOther) {
  Create("s");
  ASSERT_THAT(AppendAll(*engine_, "s", Text(300, 'a')), IsOk());
  const std::string parent = Digests("s");
  ASSERT_THAT(Fork(*engine_, {.source = "s", .id = "f"}), IsOk());
  EXPECT_EQ(Digests("f"), parent);
  ASSERT_THAT(AppendAll(*engine_, "f", "more"), IsOk());
  EXPECT_EQ(Digests("s"), parent);
  ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
  Restart();
  EXPECT_EQ(Digests("f"), DigestsOf(Text(300, 'a') + "more"));
  EXPECT_THAT(Fork(*engine_, {.source = "s", .id = "g"}),
              Fails(StatusCode::kNotFound, "s"));
  EXPECT_THAT(Fork(*engine_, {.source = "f", .id = "f"}),
              Fails(StatusCode::kAlreadyExists, "f"));
}

TEST_F(StoredSessionsTest, AForkHasTheSourcesLimits) {
  Create("s");
  ASSERT_THAT(
      engine_->UpdateSession(
          {.session = "s", .snapshot_interval_tokens = 77, .pinned = true}),
      IsOk());
  const auto fork = Fork(*engine_, {.source = "s", .id = "f"});
  ASSERT_THAT(fork, IsOk());
  EXPECT_EQ(fork->snapshot_interval_tokens, 77);
  EXPECT_TRUE(fork->pinned);
}

TEST_F(StoredSessionsTest, AreTakenBackToAnyOffsetThatIsKept) {
  Create("s");
  const std::string text = Text(1000, 'a');
  ASSERT_THAT(AppendAll(*engine_, "s", text, {90, 7}), IsOk());
  const absl::StatusOr<SessionInfo> back =
      Rollback(*engine_, {.session = "s", .offset = 901});
  ASSERT_THAT(back, IsOk());
  EXPECT_EQ(back->epoch, 2);
  EXPECT_EQ(back->next_offset, 901);
  EXPECT_EQ(Digests("s"), DigestsOf(text.substr(0, 901)));
  EXPECT_THAT(Rollback(*engine_, {.session = "s", .offset = 902}),
              HasReason("OFFSET_NOT_KEPT"));
  EXPECT_EQ(engine_->GetSession("s")->epoch, 2);  // nothing was fenced
  ASSERT_THAT(Rollback(*engine_, {.session = "s", .offset = 0}), IsOk());
  EXPECT_EQ(engine_->GetSession("s")->next_offset, 0);
  ASSERT_THAT(AppendAll(*engine_, "s", "anew"), IsOk());
  EXPECT_EQ(Digests("s"), DigestsOf("anew"));
}

TEST_F(StoredSessionsTest, WhatIsRememberedOfAChangeSaysWhereItLed) {
  const auto tag = [](const std::string& id) {
    return RequestTag<SessionInfo>{
        .id = id, .digest = "d", .reply = [](const SessionInfo& info) {
          return std::to_string(info.epoch) + " " +
                 std::to_string(info.next_offset) + " " +
                 std::to_string(info.durable_offset);
        }};
  };
  Create("s");
  ASSERT_THAT(AppendAll(*engine_, "s", Text(600, 'a'), {90}), IsOk());
  ASSERT_THAT(KeepSnapshot(*engine_, {.session = "s", .name = "then"}), IsOk());
  ASSERT_THAT(
      Rollback(*engine_,
               {.session = "s", .offset = 501, .request = tag("offset")}),
      IsOk());
  ASSERT_THAT(
      Rollback(*engine_,
               {.session = "s", .snapshot = "then", .request = tag("then")}),
      IsOk());
  ASSERT_THAT(Reset(*engine_, {.session = "s", .request = tag("reset")}),
              IsOk());
  Restart();
  std::map<std::string, std::string> replies;
  for (const AnsweredRequest& request : engine_->TakeAnsweredRequests()) {
    replies[request.id] = request.reply;
  }
  EXPECT_EQ(replies["offset"], "2 501 501");
  EXPECT_EQ(replies["then"], "3 600 600");
  EXPECT_EQ(replies["reset"], "4 0 0");
}

TEST_F(StoredSessionsTest, AnAnswerIsTakenBackAtItsBeginning) {
  Create("s");
  ASSERT_THAT(AppendAll(*engine_, "s", "before"), IsOk());
  GenerateOptions options;
  options.session = "s";
  options.prompt = "prompt";
  options.max_tokens = 20;
  options.sampling.seed = 5;
  const absl::StatusOr<Generated> first = GenerateAll(*engine_, options);
  ASSERT_THAT(first, IsOk());
  const int64_t begin = first->started.offset;
  ASSERT_THAT(Rollback(*engine_, {.session = "s", .offset = begin}), IsOk());
  EXPECT_EQ(Digests("s"), DigestsOf("beforeprompt"));
}

TEST_F(StoredSessionsTest, ANamedSnapshotOutlivesWhatComesAfter) {
  Create("s");
  ASSERT_THAT(AppendAll(*engine_, "s", Text(250, 'a')), IsOk());
  const std::string then = Digests("s");
  const absl::StatusOr<SnapshotInfo> kept =
      KeepSnapshot(*engine_, {.session = "s", .name = "then"});
  ASSERT_THAT(kept, IsOk());
  EXPECT_EQ(kept->state_digest + kept->history_digest, then);
  EXPECT_THAT(KeepSnapshot(*engine_, {.session = "s", .name = "then"}),
              HasReason("SNAPSHOT_EXISTS"));
  ASSERT_THAT(AppendAll(*engine_, "s", Text(2000, 'b')), IsOk());
  Restart();
  ASSERT_THAT(Rollback(*engine_, {.session = "s", .snapshot = "then"}), IsOk());
  EXPECT_EQ(Digests("s"), then);
  EXPECT_THAT(Rollback(*engine_, {.session = "s", .snapshot = "never"}),
              HasReason("SNAPSHOT_NOT_FOUND"));
}

TEST_F(StoredSessionsTest, WhatEndsATaskIsRememberedWithIt) {
  Create("s");
  ScoreOptions options{.session = "s", .commit = true};
  options.request = {
      .id = "r", .digest = "d", .reply = [](const ScoreEvent& end) {
        return absl::StrCat(end.totals.bytes);
      }};
  ASSERT_THAT(ScoreAll(*engine_, options, Text(77, 'a')), IsOk());
  options.request.id = "failed";
  EXPECT_FALSE(ScoreAll(*engine_, options, std::vector<int32_t>{1}).ok());
  Restart();
  const std::vector<AnsweredRequest> answered = engine_->TakeAnsweredRequests();
  ASSERT_EQ(answered.size(), 1);
  EXPECT_EQ(answered[0].id + answered[0].digest, "rd");
  EXPECT_EQ(answered[0].reply, "77");
}

TEST_F(StoredSessionsTest, AnExportIsTheSameSessionElsewhere) {
  Create("s");
  ASSERT_THAT(AppendAll(*engine_, "s", Text(333, 'a')), IsOk());
  const std::string there = Digests("s");
  auto exported = Export(*engine_, "s");
  ASSERT_THAT(exported, IsOk());
  std::string whole;
  for (int64_t at = 0; at < (*exported)->total_bytes();) {
    const std::string_view piece = (*exported)->Read(at, 1000);
    ASSERT_FALSE(piece.empty());
    whole += piece;
    at += static_cast<int64_t>(piece.size());
  }
  exported->reset();
  StartEngine({.threads = 1});  // elsewhere
  auto import = engine_->ImportSession({.id = "copy"});
  ASSERT_THAT(import, IsOk());
  ASSERT_THAT((*import)->Add(whole), IsOk());
  ASSERT_THAT(Finish(**import), IsOk());
  EXPECT_EQ(Digests("copy"), there);
  whole[whole.size() / 2] ^= 1;
  import = engine_->ImportSession({.id = "damaged"});
  ASSERT_THAT(import, IsOk());
  absl::Status status = (*import)->Add(whole);
  if (status.ok()) status = Finish(**import).status();
  EXPECT_THAT(status, Fails(StatusCode::kDataLoss, ""));
  EXPECT_THAT(engine_->GetSession("damaged"),
              Fails(StatusCode::kNotFound, "damaged"));
}

TEST_F(StoredSessionsTest, AWatchHearsWhatHappens) {
  using Kind = SessionEvent::Kind;
  Create("s");
  ProgressWaiter waiter;
  const auto watch = *engine_->WatchSession("s", &waiter);
  ASSERT_THAT(Rollback(*engine_, {.session = "s", .offset = 0}), IsOk());
  ASSERT_THAT(engine_->UpdateSession({.session = "s", .pinned = true}), IsOk());
  ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
  std::vector<Kind> kinds;
  while (!watch->ended()) {
    const auto event = watch->Poll();
    if (event.has_value()) {
      kinds.push_back(event->kind);
    } else {
      ASSERT_TRUE(waiter.Wait());
    }
  }
  EXPECT_THAT(kinds,
              testing::ElementsAre(Kind::kNow, Kind::kRolledBack, Kind::kLoaded,
                                   Kind::kUpdated, Kind::kDeleted));
}

TEST_F(StoredSessionsTest, TwoEnginesDoNotShareADirectory) {
  EXPECT_THAT(Engine::Create({.data_directory = data_dir_.path()}),
              Fails(StatusCode::kFailedPrecondition, data_dir_.path()));
}

}  // namespace
}  // namespace mneme
