// SPDX-License-Identifier: Apache-2.0
#include "server/grpc_server.h"

#include <thread>

#include "server/gauges.h"
#include "server/metrics_server.h"
#include "tests/server/server_fixture.h"

namespace mneme::server {
namespace {

using ::testing::HasSubstr;

class GrpcServerTest : public ServerFixture {};

TEST_F(GrpcServerTest, TheBoundPortIsReported) {
  EXPECT_THAT(server_->address(), ::testing::StartsWith("127.0.0.1:"));
  EXPECT_NE(server_->address(), "127.0.0.1:0");
}

TEST_F(GrpcServerTest, APortInUseIsRefused) {
  const auto second = GrpcServer::Start(
      {.listen = server_->address(), .engine = &engine_, .metrics = &metrics_});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(server_->address() + ": Address already in use"));
}

TEST_F(GrpcServerTest, DrainEndsAnIdleAppendStream) {
  Call call;
  auto stream = memory_->Append(&call);
  v1::AppendRequest request;
  request.mutable_open()->set_session("sessions/alice");
  stream->Write(request);
  v1::AppendResponse response;
  ASSERT_TRUE(stream->Read(&response));

  EXPECT_EQ(server_->Drain(absl::Now() + absl::Seconds(10)), 0);
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_TRUE(response.has_ack());
  while (stream->Read(&response)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "DRAINING");
  EXPECT_GT(DetailOf<google::rpc::RetryInfo>(status).retry_delay().seconds(),
            0);
}

TEST_F(GrpcServerTest, DrainLetsAGenerationFinish) {
  Call call;
  v1::GenerateRequest request;
  request.set_session("sessions/alice");
  auto reader = memory_->Generate(&call, request);
  ASSERT_TRUE(engine_.AwaitStreams(1));
  std::thread draining(
      [&] { server_->Drain(absl::Now() + absl::Seconds(10)); });
  ASSERT_TRUE(engine_.AwaitDrain());
  GenerateEvent finished;
  finished.kind = GenerateEvent::Kind::kFinished;
  engine_.Say({});
  engine_.Say(finished);
  v1::GenerateResponse response;
  bool ended = false;
  while (reader->Read(&response)) ended |= response.has_finished();
  EXPECT_TRUE(ended);
  EXPECT_TRUE(reader->Finish().ok());
  draining.join();
}

TEST_F(GrpcServerTest, DrainRefusesACallThatStillWaits) {
  engine_.HoldForks();
  grpc::Status status;
  std::thread forking([&] {
    Call call;
    v1::ForkSessionRequest request;
    request.set_source("sessions/alice");
    v1::Session session;
    status = sessions_->ForkSession(&call, request, &session);
  });
  ASSERT_TRUE(engine_.AwaitFork());
  server_->Drain(absl::Now());
  forking.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "DRAINING");
}

TEST_F(GrpcServerTest, MetricsHaveTheirFamiliesFromTheStart) {
  const std::string text = MetricsText();
  for (const char* line : {
           "mneme_build_info{",
           "mneme_model_info{",
           "mneme_rpc_requests_total{code=\"OK\",method=\"mneme.v1.Memory/"
           "Append\"} 0",
           "mneme_rpc_in_flight{method=\"mneme.v1.Memory/Generate\"} 0",
           "mneme_rpc_duration_seconds_count{method=\"mneme.v1.Models/"
           "GetModel\"} 0",
           "mneme_time_to_first_token_seconds_bucket{model=\"tiny\",",
           "mneme_time_per_output_token_seconds_count{model=\"tiny\"} 0",
           "mneme_request_duration_seconds_count{model=\"tiny\",op=\"score\"}",
           "mneme_queue_wait_seconds_count{model=\"tiny\",op=\"generate\"} 0",
           "mneme_rejected_total{reason=\"ram_budget\"} 0",
           "mneme_append_tokens_total{model=\"tiny\"} 0",
           "mneme_append_bytes_total{model=\"tiny\"} 0",
           "mneme_append_segments_total{model=\"tiny\",result=\"gap\"} 0",
           "mneme_generated_tokens_total{model=\"tiny\"} 0",
           "mneme_scored_tokens_total{model=\"tiny\"} 0",
           "mneme_generations_total{finish_reason=\"error\",model=\"tiny\"} 0",
           "mneme_prefill_seconds_total{model=\"tiny\"} 0",
           "mneme_decode_seconds_total{model=\"tiny\"} 0",
           "mneme_batch_size_count{model=\"tiny\"} 0",
           "mneme_step_seconds_count{model=\"tiny\",phase=\"prefill\"} 0",
           "mneme_session_events_total{event=\"create\",model=\"tiny\"} 0",
           "mneme_cancelled_total{model=\"tiny\",stage=\"decode\"} 0",
           "mneme_session_events_total{event=\"evict\",model=\"tiny\"} 0",
           "mneme_state_load_seconds_count{model=\"tiny\"} 0",
           "mneme_state_evict_seconds_count{model=\"tiny\"} 0",
           "mneme_state_load_failures_total{model=\"tiny\",reason=\"damaged\"}"
           " 0",
           "mneme_replayed_tokens_total{model=\"tiny\"} 0",
           "mneme_session_age_tokens_count{model=\"tiny\"} 0",
           "mneme_credit_stalls_total{model=\"tiny\"} 0",
           "mneme_pass_failures_total{model=\"tiny\"} 0",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST_F(GrpcServerTest, CallsAreCountedByMethodAndCode) {
  Call call;
  v1::Session session;
  sessions_->GetSession(&call, {}, &session);
  EXPECT_THAT(MetricsText(),
              HasSubstr("mneme_rpc_requests_total{code=\"INVALID_ARGUMENT\","
                        "method=\"mneme.v1.Sessions/GetSession\"} 1"));
}

TEST_F(GrpcServerTest, WhatTheEngineTellsIsCounted) {
  GenerateStats stats;
  stats.generated_tokens = 2;
  metrics_.OnPass("tiny", PassKind::kStep, 3, 2, absl::Milliseconds(10));
  metrics_.OnSegment("tiny", SegmentResult::kApplied, 10);
  metrics_.OnAbsorbed("tiny", 9);
  metrics_.OnSegment("tiny", SegmentResult::kDuplicate, 0);
  metrics_.OnTokenGenerated("tiny", absl::ZeroDuration());
  metrics_.OnTokenGenerated("tiny", absl::Milliseconds(20));
  metrics_.OnGenerationFinished("tiny", true, FinishReason::kLength, stats);
  metrics_.OnRejected("tiny", "RAM_BUDGET");
  metrics_.OnSessionEvent("tiny", SessionEventKind::kReset);
  metrics_.OnSessionEvent("tiny", SessionEventKind::kQuarantine);
  metrics_.OnSessionLoaded("tiny", FakeEngine::Report());
  metrics_.OnSessionEvicted("tiny", absl::Seconds(1));
  metrics_.OnSnapshot("tiny", 5000);
  metrics_.OnLoadFailed("tiny", "incompatible");
  metrics_.OnPassFailed("unknown");  // not counted, not fatal
  const std::string text = MetricsText();
  for (const char* line : {
           "mneme_batch_size_sum{model=\"tiny\"} 2",
           "mneme_step_seconds_count{model=\"tiny\",phase=\"decode\"} 1",
           "mneme_append_tokens_total{model=\"tiny\"} 9",
           "mneme_append_segments_total{model=\"tiny\",result=\"duplicate\"} 1",
           "mneme_generated_tokens_total{model=\"tiny\"} 2",
           "mneme_time_per_output_token_seconds_count{model=\"tiny\"} 1",
           "mneme_generations_total{finish_reason=\"length\",model=\"tiny\"} 1",
           "mneme_rejected_total{reason=\"ram_budget\"} 1",
           "mneme_session_events_total{event=\"reset\",model=\"tiny\"} 1",
           "mneme_session_events_total{event=\"quarantine\",model=\"tiny\"} 1",
           "mneme_session_events_total{event=\"load\",model=\"tiny\"} 1",
           "mneme_session_events_total{event=\"evict\",model=\"tiny\"} 1",
           "mneme_session_events_total{event=\"snapshot\",model=\"tiny\"} 1",
           "mneme_state_load_seconds_sum{model=\"tiny\"} 2",
           "mneme_replayed_tokens_total{model=\"tiny\"} 42",
           "mneme_state_evict_seconds_sum{model=\"tiny\"} 1",
           "mneme_session_age_tokens_sum{model=\"tiny\"} 5000",
           "mneme_state_load_failures_total{model=\"tiny\",reason="
           "\"incompatible\"} 1",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST_F(GrpcServerTest, GaugesShowTheEngineAndTheProcess) {
  const prometheus::TextSerializer serializer;
  const std::string engine =
      serializer.Serialize(EngineGauges(&engine_).Collect());
  EXPECT_THAT(engine, HasSubstr("mneme_sessions{model=\"tiny\",state=\"hot\"}"
                                " 1"));
  EXPECT_THAT(engine, HasSubstr("mneme_sessions{model=\"tiny\",state=\"cold\"}"
                                " 0"));
  EXPECT_THAT(engine, HasSubstr("mneme_state_bytes{tier=\"ram\"} 1234"));
  EXPECT_THAT(engine, HasSubstr("mneme_state_bytes{tier=\"store\"} 300"));
  EXPECT_THAT(engine, HasSubstr("mneme_store_bytes 300"));
  EXPECT_THAT(engine, HasSubstr("mneme_store_writable 1"));
  EXPECT_THAT(engine, HasSubstr("mneme_durable_lag_bytes 9"));
  EXPECT_THAT(engine, HasSubstr("mneme_state_budget_bytes{tier=\"ram\"} 4096"));
  EXPECT_THAT(
      engine,
      HasSubstr("mneme_model_bytes{model=\"tiny\",term=\"state\"} 1000"));
  EXPECT_THAT(engine, HasSubstr("mneme_model_bytes{model=\"tiny\",term="
                                "\"transfer\"} "));
  EXPECT_THAT(engine, HasSubstr("mneme_index_bytes 77"));
  EXPECT_THAT(engine, HasSubstr("mneme_constant_bytes{part=\"store\"} 5"));
  EXPECT_THAT(engine, HasSubstr("mneme_constant_bytes{part=\"transport\"} "
                                "134217728"));
  EXPECT_THAT(engine,
              HasSubstr("mneme_constant_bytes{part=\"process\"} 67108864"));
  const std::string process = serializer.Serialize(ProcessGauges().Collect());
  for (const char* name :
       {"process_resident_memory_bytes ", "process_virtual_memory_bytes ",
        "process_cpu_seconds_total ", "process_open_fds ",
        "process_start_time_seconds "}) {
    EXPECT_THAT(process, HasSubstr(name));
  }
}

TEST_F(GrpcServerTest, MetricsServerRefusesAPortInUse) {
  const auto first = MetricsServer::Start("127.0.0.1:0", {metrics_.registry()});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_NE((*first)->address(), "127.0.0.1:0");
  const auto second = MetricsServer::Start((*first)->address(), {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace mneme::server
