// SPDX-License-Identifier: Apache-2.0
#include "server/convert.h"

#include <functional>

#include "engine/base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme::server {
namespace {

using ::testing::ElementsAre;

TEST(ConvertTest, TimesKeepTheirNanoseconds) {
  const absl::Time time = absl::FromUnixSeconds(100) + absl::Nanoseconds(7);
  EXPECT_EQ(ToTimestamp(time).seconds(), 100);
  EXPECT_EQ(ToTimestamp(time).nanos(), 7);
  const absl::Time early = absl::FromUnixSeconds(-1) + absl::Nanoseconds(1);
  EXPECT_EQ(ToTimestamp(early).seconds(), -1);
  EXPECT_EQ(ToTimestamp(early).nanos(), 1);
  EXPECT_EQ(ToDuration(absl::Milliseconds(1500)).seconds(), 1);
  EXPECT_EQ(ToDuration(absl::Milliseconds(1500)).nanos(), 500000000);
}

TEST(ConvertTest, ASessionShowsWhatTheEngineKnows) {
  SessionInfo info;
  info.id = "a";
  info.uid = "u";
  info.model = "m";
  info.epoch = 3;
  info.unit = SessionUnit::kTokens;
  info.activity = SessionActivity::kGenerating;
  info.next_offset = 9;
  info.absorbed_offset = 8;
  info.labels = {{"k", "v"}};
  const v1::Session session = ToProto(info);
  EXPECT_EQ(session.name(), "sessions/a");
  EXPECT_EQ(session.model(), "models/m");
  EXPECT_EQ(session.unit(), v1::Session::TOKENS);
  EXPECT_EQ(session.busy(), v1::Session::GENERATING);
  EXPECT_EQ(session.state_tier(), v1::Session::HOT);
  EXPECT_EQ(session.durability(), v1::Session::NONE);
  EXPECT_EQ(session.next_offset(), 9);
  EXPECT_EQ(session.labels().at("k"), "v");
}

TEST(ConvertTest, AnEtagChangesWithUidAndRevisionAndNothingElse) {
  SessionInfo info;
  info.uid = "u";
  info.revision = 1;
  const std::string etag = EtagOf(info);
  info.position = 100;
  EXPECT_EQ(EtagOf(info), etag);
  info.revision = 2;
  EXPECT_NE(EtagOf(info), etag);
  info.revision = 1;
  info.uid = "w";
  EXPECT_NE(EtagOf(info), etag);
}

v1::GenerateRequest Request() {
  v1::GenerateRequest request;
  request.set_session("sessions/a");
  return request;
}

TEST(ConvertTest, GenerateHasTheContractsDefaults) {
  const auto options = FromProto(Request());
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->session, "a");
  EXPECT_EQ(options->max_tokens, 256);
  EXPECT_EQ(options->sampling.temperature, 1.0f);
  EXPECT_FALSE(options->sampling.seed.has_value());
  EXPECT_FALSE(options->prompt.has_value());
  EXPECT_TRUE(options->commit);
}

TEST(ConvertTest, GenerateTakesEveryFieldThatIsServed) {
  v1::GenerateRequest request = Request();
  request.set_uid("u");
  request.mutable_tokens()->add_ids(4);
  request.set_max_tokens(5);
  v1::SamplingParams& params = *request.mutable_sampling();
  params.set_temperature(0);
  params.set_seed(0);
  params.set_top_k(7);
  params.set_top_p(.5f);
  params.set_min_p(.25f);
  params.set_typical_p(.75f);
  params.set_repetition_penalty(2);
  params.set_presence_penalty(-1);
  params.set_frequency_penalty(3);
  params.set_penalty_window_tokens(8);
  (*params.mutable_logit_bias())[9] = -4;
  request.add_stop("x");
  request.add_stop("yz");
  request.add_stop_token_ids(3);
  request.set_ignore_eos(true);
  request.set_logprobs(true);
  request.set_top_logprobs(6);
  request.set_commit(false);
  request.set_request_id("id");
  request.set_output_offset(77);
  request.set_on_disconnect(v1::GenerateRequest::FINISH);
  const auto options = FromProto(request);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->uid, "u");
  EXPECT_THAT(std::get<std::vector<int32_t>>(*options->prompt), ElementsAre(4));
  EXPECT_EQ(options->max_tokens, 5);
  const SamplingOptions& sampling = options->sampling;
  EXPECT_EQ(sampling.temperature, 0.0f);
  EXPECT_TRUE(sampling.seed.has_value());
  EXPECT_EQ(sampling.top_k, 7);
  EXPECT_EQ(sampling.top_p, .5f);
  EXPECT_EQ(sampling.min_p, .25f);
  EXPECT_EQ(sampling.typical_p, .75f);
  EXPECT_EQ(sampling.repetition_penalty, 2);
  EXPECT_EQ(sampling.presence_penalty, -1);
  EXPECT_EQ(sampling.frequency_penalty, 3);
  EXPECT_EQ(sampling.penalty_window_tokens, 8);
  EXPECT_THAT(sampling.logit_bias, ElementsAre(std::make_pair(9, -4.0f)));
  EXPECT_THAT(options->stop, ElementsAre("x", "yz"));
  EXPECT_THAT(options->stop_tokens, ElementsAre(3));
  EXPECT_TRUE(options->ignore_eos);
  EXPECT_TRUE(options->logprobs);
  EXPECT_EQ(options->top_logprobs, 6);
  EXPECT_FALSE(options->commit);
  EXPECT_EQ(options->request_id, "id");
  EXPECT_EQ(options->output_offset, 77);
  EXPECT_EQ(options->on_disconnect, OnDisconnect::kFinish);
}

TEST(ConvertTest, ARequestIsTheSameWhateverItsOutputOffset) {
  v1::GenerateRequest request = Request();
  EXPECT_EQ(FromProto(request)->request_digest, "");
  request.set_request_id("id");
  (*request.mutable_sampling()->mutable_logit_bias())[1] = 1;
  (*request.mutable_sampling()->mutable_logit_bias())[2] = 2;
  const std::string digest = FromProto(request)->request_digest;
  EXPECT_EQ(digest.size(), 64u);
  request.set_output_offset(5);
  EXPECT_EQ(FromProto(request)->request_digest, digest);
  request.set_text("x");
  EXPECT_NE(FromProto(request)->request_digest, digest);
}

TEST(ConvertTest, GenerateNamesEachFieldThatIsNotServed) {
  using Change = std::function<void(v1::GenerateRequest*)>;
  const std::pair<const char*, Change> cases[] = {
      {"grammar", [](auto* r) { r->set_grammar("x"); }},
      {"json_schema", [](auto* r) { r->set_json_schema("{}"); }},
  };
  for (const auto& [field, change] : cases) {
    v1::GenerateRequest request = Request();
    change(&request);
    const absl::Status status = FromProto(request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << field;
    ASSERT_TRUE(GetReason(status).has_value()) << field;
    EXPECT_EQ(GetReason(status)->metadata[0].second, field);
  }
}

TEST(ConvertTest, GenerateRefusesWhatItCannotRead) {
  using Change = std::function<void(v1::GenerateRequest*)>;
  const std::pair<const char*, Change> cases[] = {
      {"session", [](auto* r) { r->set_session("a"); }},
      {"on_disconnect",
       [](auto* r) {
         r->set_on_disconnect(
             static_cast<v1::GenerateRequest::OnDisconnect>(9));
       }},
  };
  for (const auto& [field, change] : cases) {
    v1::GenerateRequest request = Request();
    change(&request);
    const absl::Status status = FromProto(request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_EQ(GetReason(status)->metadata[0].second, field);
  }
}

TEST(ConvertTest, CreateTakesASnapshotByItsName) {
  v1::CreateSessionRequest request;
  request.set_source_snapshot("sessions/a/snapshots/b");
  const auto options = FromProto(request);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->source_session, "a");
  EXPECT_EQ(options->source_snapshot, "b");
  for (const char* name :
       {"sessions/a", "sessions/a/snapshots/", "sessions//snapshots/b",
        "a/snapshots/b", "sessions/a/snapshots/b/snapshots/c"}) {
    request.set_source_snapshot(name);
    const absl::Status status = FromProto(request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_EQ(GetReason(status)->metadata[0].second, "source_snapshot");
  }
}

TEST(ConvertTest, AForkHasOnlyLabelsAndTtlOfItsOwn) {
  v1::ForkSessionRequest request;
  request.set_source("sessions/a");
  request.mutable_session()->mutable_ttl()->set_seconds(5);
  EXPECT_EQ(FromProto(request)->ttl, absl::Seconds(5));
  request.mutable_session()->set_pinned(true);
  EXPECT_EQ(GetReason(FromProto(request).status())->metadata[0].second,
            "session.pinned");
}

TEST(ConvertTest, ARollbackNamesItsTarget) {
  v1::RollbackSessionRequest request;
  request.set_name("sessions/a");
  EXPECT_EQ(GetReason(FromProto(request).status())->metadata[0].second,
            "target");
  request.set_offset(-1);
  EXPECT_FALSE(FromProto(request).ok());
  request.set_snapshot("sessions/b/snapshots/s");
  EXPECT_EQ(GetReason(FromProto(request).status())->metadata[0].second,
            "snapshot");
  request.set_snapshot("sessions/a/snapshots/s");
  EXPECT_EQ(FromProto(request)->snapshot, "s");
}

TEST(ConvertTest, UpdateTakesWhatItsMaskNames) {
  v1::UpdateSessionRequest request;
  request.mutable_session()->set_name("sessions/s");
  (*request.mutable_session()->mutable_labels())["a"] = "1";
  request.mutable_session()->mutable_ttl()->set_seconds(5);
  auto options = FromProto(request);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->session, "s");
  EXPECT_EQ(options->labels->at("a"), "1");
  EXPECT_EQ(options->ttl, absl::Seconds(5));
  request.mutable_update_mask()->add_paths("ttl");
  options = FromProto(request);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_FALSE(options->labels.has_value());
  EXPECT_EQ(options->ttl, absl::Seconds(5));
  request.mutable_update_mask()->set_paths(0, "model");
  EXPECT_EQ(GetReason(FromProto(request).status())->metadata[0].second,
            "update_mask");
  request.clear_update_mask();
  request.mutable_session()->mutable_ttl()->set_nanos(-1);
  EXPECT_EQ(GetReason(FromProto(request).status())->metadata[0].second,
            "session.ttl");
}

TEST(ConvertTest, ASegmentGivesItsPayloadAway) {
  v1::AppendRequest::Segment segment;
  segment.set_offset(4);
  segment.set_text("abc");
  segment.set_crc32c(0);
  const auto converted = FromProto(&segment);
  ASSERT_TRUE(converted.ok());
  EXPECT_EQ(converted->offset, 4);
  EXPECT_EQ(std::get<std::string>(converted->payload), "abc");
  EXPECT_TRUE(converted->crc32c.has_value());
  segment.Clear();
  segment.set_offset(4);
  EXPECT_EQ(FromProto(&segment).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ConvertTest, TotalsWithoutBytesHaveNoRate) {
  EXPECT_EQ(ToProto(ScoreTotals{}).bits_per_byte(), 0);
  EXPECT_EQ(ToProto(ScoreTotals{}).bits_per_token(), 0);
}

}  // namespace
}  // namespace mneme::server
