// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/crc32c.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/engine_fixture.h"
#include "tests/support/engine_driver.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Ids = std::vector<int32_t>;

// Tokens that are characters by themselves, rather than anything else.
const std::map<int32_t, float> kLetters = {
    {'a', 50.0f}, {'b', 50.0f}, {'c', 50.0f}, {'d', 50.0f}};

TEST_F(EngineTest, SegmentsHaveToJoin) {
  Create("s");
  ProgressWaiter waiter;
  const auto stream = *engine_->OpenAppend({.session = "s"}, &waiter);
  ASSERT_THAT(stream->Write({.offset = 0, .payload = "hello "}), IsOk());

  const auto gap = stream->Write({.offset = 7, .payload = "world"});
  EXPECT_THAT(gap, Fails(StatusCode::kOutOfRange, "want 6"));
  EXPECT_THAT(gap, HasReason("SEGMENT_GAP"));

  const auto conflict = stream->Write({.offset = 0, .payload = "hellO "});
  EXPECT_THAT(conflict, HasReason("SEGMENT_CONFLICT"));

  const auto same = *stream->Write({.offset = 0, .payload = "hello "});
  EXPECT_TRUE(same.duplicate);
  EXPECT_TRUE(same.verified);

  // What overlaps adds only its end.
  const auto overlap = *stream->Write({.offset = 3, .payload = "lo world"});
  EXPECT_TRUE(overlap.duplicate);
  EXPECT_THAT(stream->Write({.offset = 4, .payload = "o World"}),
              HasReason("SEGMENT_CONFLICT"));

  Create("whole");
  ASSERT_THAT(AppendAll(*engine_, "whole", "hello world"), IsOk());
  EXPECT_EQ(Describe(*engine_, "s")->history_digest,
            Describe(*engine_, "whole")->history_digest);
  EXPECT_EQ(Describe(*engine_, "s")->state_digest,
            Describe(*engine_, "whole")->state_digest);
}

TEST_F(EngineTest, AnOldDuplicateIsTakenUnverified) {
  Create("s");
  ASSERT_THAT(AppendAll(*engine_, "s", std::string(200'000, 'a'), {50'000}),
              IsOk());
  ProgressWaiter waiter;
  const auto stream = *engine_->OpenAppend({.session = "s"}, &waiter);
  const auto old = *stream->Write({.offset = 0, .payload = "zzz"});
  EXPECT_TRUE(old.duplicate);
  EXPECT_FALSE(old.verified);
  EXPECT_THAT(stream->Write({.offset = 199'990, .payload = "b"}),
              HasReason("SEGMENT_CONFLICT"));
}

TEST_F(EngineTest, AnOldDuplicateIsComparedWithTheJournal) {
  StartEngine({.threads = 1, .snapshot_interval_tokens = 1 << 20});
  Create("s");
  std::string text;
  for (int i = 0; i < 25'000; ++i) text += absl::StrCat(i % 7919, " ");
  ASSERT_THAT(AppendAll(*engine_, "s", text, {50'000, 3}), IsOk());
  ProgressWaiter waiter;
  const auto stream = *engine_->OpenAppend({.session = "s"}, &waiter);
  const auto offer = [&](int64_t offset, const std::string& piece) {
    while (true) {
      auto taken = stream->Write({.offset = offset, .payload = piece});
      if (!taken.ok() || taken->offer == Offer::kTaken) return taken;
      EXPECT_TRUE(waiter.Wait());
    }
  };
  for (const int64_t offset : {0, 49'990, 50'002}) {
    std::string piece = text.substr(offset, 100);
    const auto same = offer(offset, piece);
    ASSERT_THAT(same, IsOk());
    EXPECT_TRUE(same->duplicate);
    EXPECT_TRUE(same->verified);
    piece[50] ^= 1;
    EXPECT_THAT(offer(offset, piece), HasReason("SEGMENT_CONFLICT")) << offset;
    EXPECT_THAT(stream->status(), IsOk());
  }
}

TEST_F(EngineTest, DamagedAndWrongSegmentsChangeNothing) {
  Create("s");
  const std::string before = Describe(*engine_, "s")->state_digest;
  ProgressWaiter waiter;
  {
    const auto stream = *engine_->OpenAppend({.session = "s"}, &waiter);
    EXPECT_THAT(stream->Write({.offset = 0, .payload = "abc", .crc32c = 1}),
                HasReason("CRC_MISMATCH"));
    EXPECT_THAT(stream->Write({.offset = -1, .payload = "abc"}),
                Fails(StatusCode::kInvalidArgument, "-1"));
    EXPECT_THAT(stream->Write({.offset = 0, .payload = ""}),
                Fails(StatusCode::kInvalidArgument, "0 bytes"));
    EXPECT_THAT(stream->Write({.offset = 0, .payload = Ids{1, 2}}),
                HasReason("WRONG_UNIT"));
    EXPECT_THAT(stream->Write(
                    {.offset = 0, .payload = std::string((1 << 20) + 1, 'a')}),
                Fails(StatusCode::kInvalidArgument, "wanted 1 to"));
    EXPECT_EQ(Describe(*engine_, "s")->state_digest, before);
    ASSERT_THAT(
        stream->Write({.offset = 0, .payload = "abc", .crc32c = Crc32c("abc")}),
        IsOk());
  }
}

TEST_F(EngineTest, TokenSessionsCountTokensAndCheckThem) {
  Create("t", SessionUnit::kTokens);
  ASSERT_THAT(AppendAll(*engine_, "t", Ids(100, 5), {7}), IsOk());
  const SessionInfo info = *Describe(*engine_, "t");
  EXPECT_EQ(info.next_offset, 100);
  EXPECT_EQ(info.position, 100);
  EXPECT_EQ(info.pending_tokens, 36);
  EXPECT_THAT(AppendAll(*engine_, "t", Ids{264}),
              Fails(StatusCode::kInvalidArgument, "token 0 is 264"));
  const auto said = GenerateAll(
      *engine_, {.session = "t", .max_tokens = 3, .ignore_eos = true});
  ASSERT_THAT(said, IsOk());
  EXPECT_EQ(said->tokens.size(), 3u);
  EXPECT_EQ(said->finished.next_offset, 103);
}

TEST_F(EngineTest, ATokenSessionWithoutHistoryHasNothingToSay) {
  Create("t", SessionUnit::kTokens);
  EXPECT_THAT(GenerateAll(*engine_, {.session = "t"}), HasReason("NO_HISTORY"));
  const auto scored = ScoreAll(*engine_, {.session = "t"}, Ids{1, 2, 3});
  ASSERT_THAT(scored, IsOk());
  EXPECT_EQ(scored->finished.totals.tokens_scored, 2);
  EXPECT_EQ(scored->finished.totals.tokens_unscored, 1);
}

TEST_F(EngineTest, AnotherWriterHasToTakeOver) {
  Create("s");
  ProgressWaiter first_waiter;
  ProgressWaiter second_waiter;
  const auto first = *engine_->OpenAppend({.session = "s"}, &first_waiter);
  EXPECT_THAT(engine_->OpenAppend({.session = "s"}, &second_waiter),
              HasReason("SESSION_BUSY"));
  const auto second =
      *engine_->OpenAppend({.session = "s", .takeover = true}, &second_waiter);
  EXPECT_EQ(second->opened().epoch, first->opened().epoch + 1);
  EXPECT_TRUE(first_waiter.Wait());
  EXPECT_THAT(first->status(), HasReason("TAKEN_OVER"));
  EXPECT_THAT(first->Write({.offset = 0, .payload = "a"}),
              HasReason("TAKEN_OVER"));
  EXPECT_THAT(second->Write({.offset = 0, .payload = "a"}), IsOk());
  EXPECT_THAT(
      engine_->OpenAppend({.session = "s", .expected_epoch = 1}, &first_waiter),
      HasReason("EPOCH_FENCED"));
  EXPECT_THAT(engine_->OpenAppend({.session = "s", .uid = "x"}, &first_waiter),
              HasReason("EPOCH_FENCED"));
}

TEST_F(EngineTest, GreedyIsTheSameEveryTimeAndSeedsAreRepeatable) {
  for (const float temperature : {0.0f, 1.0f}) {
    std::string texts[2];
    for (std::string& text : texts) {
      Create("s");
      const auto said =
          GenerateAll(*engine_, {.session = "s",
                                 .prompt = "What is it?",
                                 .max_tokens = 60,
                                 .sampling = {.temperature = temperature,
                                              .seed = 4,
                                              .logit_bias = kLetters},
                                 .ignore_eos = true,
                                 .logprobs = true});
      ASSERT_THAT(said, IsOk());
      EXPECT_EQ(said->tokens.size(), 60u);
      EXPECT_EQ(said->started.ask_position, 12);
      EXPECT_EQ(said->started.offset, 11);
      EXPECT_EQ(said->finished.position, 72);
      EXPECT_EQ(said->finished.reason, FinishReason::kLength);
      EXPECT_EQ(said->finished.stats.prompt_tokens, 11);
      EXPECT_EQ(said->finished.stats.generated_tokens, 60);
      EXPECT_EQ(said->finished.next_offset,
                11 + static_cast<int64_t>(said->text.size()));
      text = said->text;
      ASSERT_THAT(engine_->DeleteSession("s", ""), IsOk());
    }
    EXPECT_EQ(texts[0], texts[1]);
  }
}

TEST_F(EngineTest, AStopTokenEndsTheReplyAndStaysInTheHistory) {
  Create("s");
  const auto free = GenerateAll(*engine_, {.session = "s",
                                           .prompt = "abc",
                                           .max_tokens = 5,
                                           .sampling = {.temperature = 0}});
  ASSERT_THAT(free, IsOk());
  Create("t");
  const auto stopped =
      GenerateAll(*engine_, {.session = "t",
                             .prompt = "abc",
                             .max_tokens = 5,
                             .sampling = {.temperature = 0},
                             .stop_tokens = {free->tokens[0]}});
  ASSERT_THAT(stopped, IsOk());
  EXPECT_EQ(stopped->finished.reason, FinishReason::kStop);
  EXPECT_EQ(stopped->finished.stop_token, free->tokens[0]);
  EXPECT_TRUE(stopped->tokens.empty());
  EXPECT_EQ(stopped->finished.position, 5);  // BOS, the prompt, the stop
}

TEST_F(EngineTest, GenerateChecksItsOptions) {
  Create("s");
  EXPECT_THAT(GenerateAll(*engine_, {.session = "s", .max_tokens = 0}),
              Fails(StatusCode::kInvalidArgument, "max_tokens"));
  EXPECT_THAT(
      GenerateAll(*engine_, {.session = "s", .sampling = {.temperature = -1}}),
      Fails(StatusCode::kInvalidArgument, "temperature"));
  EXPECT_THAT(
      GenerateAll(*engine_,
                  {.session = "s", .prompt = std::string((1 << 20) + 1, 'x')}),
      Fails(StatusCode::kInvalidArgument, "prompt"));
  EXPECT_THAT(GenerateAll(*engine_, {.session = "s", .prompt = Ids{1}}),
              HasReason("WRONG_UNIT"));
  EXPECT_THAT(GenerateAll(*engine_, {.session = "none"}),
              Fails(StatusCode::kNotFound, "none"));
}

TEST_F(EngineTest, AGenerationIsTheOnlyWriterAndPausesForASlowReader) {
  Create("s");
  ProgressWaiter writer_waiter;
  ProgressWaiter waiter;
  const auto writer = *engine_->OpenAppend({.session = "s"}, &writer_waiter);
  auto generation = *engine_->Generate(
      {.session = "s", .max_tokens = 100'000, .ignore_eos = true}, &waiter);
  EXPECT_FALSE(writer->writable());
  EXPECT_EQ(writer->Write({.offset = 0, .payload = "x"})->offer, Offer::kLater);
  EXPECT_THAT(GenerateAll(*engine_, {.session = "s"}),
              HasReason("SESSION_BUSY"));
  EXPECT_THAT(ScoreAll(*engine_, {.session = "s", .commit = true}, "abc"),
              HasReason("SESSION_BUSY"));

  // Nothing is polled: it stops at a bounded number of tokens, and so does
  // not end by itself.
  int64_t position = 0;
  for (int i = 0; i < 200; ++i) {
    const int64_t now = Describe(*engine_, "s")->position;
    if (now == position && now > 100) break;
    position = now;
  }
  EXPECT_LT(position, 1000);

  // Reading makes it go on; cancelling ends it; the writer is told.
  int events = 0;
  while (events < 2000) {
    if (generation->Poll().has_value()) {
      ++events;
    } else {
      ASSERT_TRUE(waiter.Wait());
    }
  }
  generation->Cancel();
  while (true) {
    const auto event = generation->Poll();
    if (!event.has_value()) {
      ASSERT_TRUE(waiter.Wait());
    } else if (event->kind == GenerateEvent::Kind::kFinished) {
      EXPECT_THAT(event->status, IsOk());
      EXPECT_EQ(event->reason, FinishReason::kCancelled);
      EXPECT_EQ(event->next_offset, engine_->GetSession("s")->next_offset);
      break;
    }
  }
  while (!writer->writable()) ASSERT_TRUE(writer_waiter.Wait());
}

TEST_F(EngineTest, DroppingAGenerationFreesItsSession) {
  Create("s");
  ProgressWaiter waiter;
  {
    const auto generation = *engine_->Generate(
        {.session = "s", .max_tokens = 100'000, .ignore_eos = true}, &waiter);
    ASSERT_TRUE(waiter.Wait());
  }
  // The next one may have to wait for the pass that is under way.
  absl::Status status = absl::UnknownError("");
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (!status.ok() && absl::Now() < deadline) {
    status = GenerateAll(*engine_, {.session = "s", .max_tokens = 2}).status();
    if (!status.ok()) {
      ASSERT_THAT(status, HasReason("SESSION_BUSY"));
      std::this_thread::yield();
    }
  }
  EXPECT_THAT(status, IsOk());
}

TEST_F(EngineTest, ScoreTakesPiecesOfAnAllowedSize) {
  Create("s");
  ProgressWaiter waiter;
  const auto scoring = *engine_->Score({.session = "s"}, &waiter);
  EXPECT_THAT(scoring->Write(std::string()),
              Fails(StatusCode::kInvalidArgument, "0 bytes"));
  EXPECT_THAT(scoring->Write(std::string(kMaxSegmentBytes + 1, 'x')),
              Fails(StatusCode::kInvalidArgument, "1048577 bytes"));
  EXPECT_THAT(scoring->Write(Ids{1}), HasReason("WRONG_UNIT"));
  EXPECT_THAT(scoring->Write(std::string("ab")), IsOk());
}

TEST_F(EngineTest, AnInterruptedScoreLeavesTheHistoryThatItsStateHas) {
  Create("s");
  std::string text(300'000, 'a');
  for (size_t i = 0; i < text.size(); ++i) text[i] = char('a' + i % 23);
  {
    ProgressWaiter waiter;
    const auto scoring =
        *engine_->Score({.session = "s", .commit = true}, &waiter);
    ASSERT_EQ(*scoring->Write(text.substr(0, 100'000)), Offer::kTaken);
    ASSERT_TRUE(waiter.Wait());
  }
  // The scoring ends at a block of its own choosing.
  SessionInfo info;
  do {
    info = *Describe(*engine_, "s");
  } while (info.activity != SessionActivity::kIdle);
  EXPECT_EQ(info.position, info.next_offset + 1);
  ASSERT_GT(info.next_offset, 0);
  ASSERT_LT(info.next_offset, 100'000);
  Create("same");
  const auto scored = ScoreAll(*engine_, {.session = "same", .commit = true},
                               text.substr(0, info.next_offset));
  ASSERT_THAT(scored, IsOk());
  EXPECT_EQ(scored->finished.totals.bytes, info.next_offset);
  EXPECT_EQ(Describe(*engine_, "same")->history_digest, info.history_digest);
  EXPECT_EQ(Describe(*engine_, "same")->state_digest, info.state_digest);
}

TEST_F(EngineTest, AScoreGetsItsTurnBesideASteadyWriter) {
  Create("s");
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    while (!stop) {
      EXPECT_THAT(AppendAll(*engine_, "s", std::string(50'000, 'w')), IsOk());
    }
  });
  EXPECT_THAT(ScoreAll(*engine_, {.session = "s"}, "abc"), IsOk());
  stop = true;
  writer.join();
}

TEST_F(EngineTest, StopTokensHaveToBeInTheVocabulary) {
  Create("s");
  for (const int32_t token : {-5, 264}) {
    EXPECT_THAT(GenerateAll(*engine_, {.session = "s", .stop_tokens = {token}}),
                Fails(StatusCode::kInvalidArgument, "stop_token_ids"));
  }
}

TEST_F(EngineTest, ManySmallSegmentsTakeNoMoreRoomThanTheirBytes) {
  Create("s");
  ASSERT_THAT(AppendAll(*engine_, "s", std::string(20'000, 'q'), {1}), IsOk());
  EXPECT_EQ(engine_->GetSession("s")->next_offset, 20'000);
}

TEST_F(EngineTest, AModelThatCannotBeLoadedSaysWhy) {
  EXPECT_THAT(engine_->LoadModel("x", "/nonexistent"),
              Fails(StatusCode::kNotFound, "config.json"));
  EXPECT_THAT(engine_->LoadModel("tiny", model_dir_.path()),
              Fails(StatusCode::kAlreadyExists, "tiny"));
  EXPECT_THAT(Engine::Create({.backend = "abacus"}),
              Fails(StatusCode::kInvalidArgument, "abacus"));
}

}  // namespace
}  // namespace mneme
