// SPDX-License-Identifier: Apache-2.0
#include "tests/server/server_fixture.h"

namespace mneme::server {
namespace {

using ::testing::HasSubstr;

class SessionsServiceTest : public ServerFixture {
 protected:
  grpc::Status Create(const v1::CreateSessionRequest& request) {
    Call call;
    return sessions_->CreateSession(&call, request, &session_);
  }
  grpc::Status Get(const std::string& name,
                   v1::SessionView view = v1::SESSION_VIEW_UNSPECIFIED) {
    Call call;
    v1::GetSessionRequest request;
    request.set_name(name);
    request.set_view(view);
    return sessions_->GetSession(&call, request, &session_);
  }
  grpc::Status Delete(const v1::DeleteSessionRequest& request) {
    Call call;
    google::protobuf::Empty reply;
    return sessions_->DeleteSession(&call, request, &reply);
  }
  grpc::Status List(const v1::ListSessionsRequest& request) {
    Call call;
    page_.Clear();
    return sessions_->ListSessions(&call, request, &page_);
  }

  v1::Session session_;
  v1::ListSessionsResponse page_;
};

TEST_F(SessionsServiceTest, CreateTakesTheOnlyModel) {
  v1::CreateSessionRequest request;
  request.set_session_id("bob");
  (*request.mutable_session()->mutable_labels())["k"] = "v";
  ASSERT_TRUE(Create(request).ok());
  EXPECT_EQ(session_.name(), "sessions/bob");
  EXPECT_EQ(session_.model(), "models/tiny");
  EXPECT_EQ(session_.unit(), v1::Session::TEXT);
  EXPECT_EQ(session_.state(), v1::Session::ACTIVE);
  EXPECT_EQ(session_.labels().at("k"), "v");
  EXPECT_FALSE(session_.etag().empty());
}

TEST_F(SessionsServiceTest, CreateNeedsTheModelWhereThereAreSeveral) {
  ASSERT_TRUE(engine_.LoadModel("other", "").ok());
  const grpc::Status status = Create({});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(
      DetailOf<google::rpc::BadRequest>(status).field_violations(0).field(),
      "session.model");
}

TEST_F(SessionsServiceTest, CreateOfAMissingModelNamesIt) {
  v1::CreateSessionRequest request;
  request.mutable_session()->set_model("models/none");
  const grpc::Status status = Create(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(status), "MODEL_NOT_FOUND");
  EXPECT_EQ(DetailOf<google::rpc::ResourceInfo>(status).resource_name(),
            "models/none");
}

TEST_F(SessionsServiceTest, ARepeatedCreateGetsTheFirstAnswer) {
  v1::CreateSessionRequest request;
  request.set_request_id("r1");
  ASSERT_TRUE(Create(request).ok());
  const v1::Session first = session_;
  ASSERT_TRUE(Create(request).ok());
  EXPECT_EQ(session_.uid(), first.uid());
  EXPECT_EQ(engine_.creates(), 2);  // alice and this one

  request.set_session_id("x");
  const grpc::Status status = Create(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(status), "REQUEST_ID_REUSED");
}

TEST_F(SessionsServiceTest, AnExistingIdIsToldApart) {
  v1::CreateSessionRequest request;
  request.set_session_id("alice");
  const grpc::Status status = Create(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(ReasonOf(status), "SESSION_EXISTS");
}

TEST_F(SessionsServiceTest, DigestsComeWithTheFullView) {
  ASSERT_TRUE(Get("sessions/alice").ok());
  EXPECT_EQ(session_.state_digest().size(), 64u);
  ASSERT_TRUE(Get("sessions/alice", v1::SESSION_VIEW_BASIC).ok());
  EXPECT_TRUE(session_.state_digest().empty());
}

TEST_F(SessionsServiceTest, GetRefusesWhatIsNoName) {
  EXPECT_EQ(Get("alice").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Get("sessions/bob").error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(SessionsServiceTest, DeleteComparesTheEtag) {
  ASSERT_TRUE(Get("sessions/alice").ok());
  v1::DeleteSessionRequest request;
  request.set_name("sessions/alice");
  request.set_etag("stale");
  const grpc::Status status = Delete(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(ReasonOf(status), "ETAG_MISMATCH");
  EXPECT_EQ(FactOf(status, "etag"), session_.etag());
  request.set_etag(session_.etag());
  request.set_request_id("d1");
  EXPECT_TRUE(Delete(request).ok());
  EXPECT_TRUE(Delete(request).ok());  // the answer that was remembered
  request.clear_request_id();
  EXPECT_EQ(Delete(request).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(SessionsServiceTest, PagesListEverySessionOnce) {
  for (int i = 0; i < 5; ++i) MakeSession(absl::StrCat("b", i));
  v1::ListSessionsRequest request;
  request.set_page_size(4);
  ASSERT_TRUE(List(request).ok());
  EXPECT_EQ(page_.sessions_size(), 4);
  EXPECT_EQ(page_.sessions(0).name(), "sessions/alice");
  request.set_page_token(page_.next_page_token());
  ASSERT_TRUE(List(request).ok());
  ASSERT_EQ(page_.sessions_size(), 2);
  EXPECT_EQ(page_.sessions(0).name(), "sessions/b3");
  EXPECT_TRUE(page_.next_page_token().empty());
}

TEST_F(SessionsServiceTest, ListChecksItsArguments) {
  v1::ListSessionsRequest request;
  request.set_page_size(-1);
  EXPECT_EQ(List(request).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  request.set_page_size(5000);
  EXPECT_TRUE(List(request).ok());
  request.set_page_token("nonsense");
  EXPECT_EQ(ReasonOf(List(request)), "BAD_PAGE_TOKEN");
  request.clear_page_token();
  request.set_filter("busy = LAZY");
  const grpc::Status status = List(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FactOf(status, "field"), "filter");
}

TEST_F(SessionsServiceTest, AQuarantinedSessionIsShownWithoutDigests) {
  engine_.ChangeSession("alice", [](SessionInfo& session) {
    session.condition = SessionCondition::kQuarantined;
    session.quarantine = "a record is damaged";
    session.tier = StateTier::kCold;
  });
  ASSERT_TRUE(Get("sessions/alice").ok());
  EXPECT_EQ(session_.state(), v1::Session::QUARANTINED);
  EXPECT_EQ(session_.state_detail(), "a record is damaged");
  EXPECT_EQ(session_.state_tier(), v1::Session::COLD);
  EXPECT_TRUE(session_.state_digest().empty());

  Call call;
  v1::VerifySessionRequest request;
  request.set_name("sessions/alice");
  v1::VerifySessionResponse verified;
  ASSERT_TRUE(sessions_->VerifySession(&call, request, &verified).ok());
  EXPECT_FALSE(verified.whole());
  EXPECT_EQ(verified.problem(), "a record is damaged");
}

TEST_F(SessionsServiceTest, AWholeSessionIsVerified) {
  for (const auto& [name, code] :
       {std::pair("sessions/alice", grpc::StatusCode::OK),
        std::pair("sessions/nobody", grpc::StatusCode::NOT_FOUND),
        std::pair("alice", grpc::StatusCode::INVALID_ARGUMENT)}) {
    Call call;
    v1::VerifySessionRequest request;
    request.set_name(name);
    v1::VerifySessionResponse verified;
    EXPECT_EQ(sessions_->VerifySession(&call, request, &verified).error_code(),
              code);
    EXPECT_EQ(verified.whole(), code == grpc::StatusCode::OK);
  }
}

TEST_F(SessionsServiceTest, SettingsAreGivenAndChanged) {
  v1::CreateSessionRequest create;
  create.set_session_id("bob");
  create.mutable_session()->set_pinned(true);
  create.mutable_session()->set_snapshot_interval_tokens(10);
  ASSERT_TRUE(Create(create).ok());
  EXPECT_TRUE(session_.pinned());
  EXPECT_EQ(session_.snapshot_interval_tokens(), 10);

  v1::UpdateSessionRequest update;
  update.mutable_session()->set_name("sessions/bob");
  update.mutable_session()->set_snapshot_interval_tokens(20);
  update.mutable_update_mask()->add_paths("pinned");
  Call masked;
  ASSERT_TRUE(sessions_->UpdateSession(&masked, update, &session_).ok());
  EXPECT_FALSE(session_.pinned());
  EXPECT_EQ(session_.snapshot_interval_tokens(), 10);
  update.clear_update_mask();
  Call all;
  ASSERT_TRUE(sessions_->UpdateSession(&all, update, &session_).ok());
  EXPECT_EQ(session_.snapshot_interval_tokens(), 20);
}

TEST_F(SessionsServiceTest, SessionsAreListedByWhereTheyAre) {
  MakeSession("bob");
  engine_.ChangeSession(
      "bob", [](SessionInfo& session) { session.tier = StateTier::kCold; });
  v1::ListSessionsRequest request;
  request.set_filter("state_tier = COLD");
  ASSERT_TRUE(List(request).ok());
  ASSERT_EQ(page_.sessions_size(), 1);
  EXPECT_EQ(page_.sessions(0).name(), "sessions/bob");
  EXPECT_EQ(page_.sessions(0).state_tier(), v1::Session::COLD);
}

TEST_F(SessionsServiceTest, ASegmentOfASessionIsCommitted) {
  v1::CommitSegmentRequest request;
  v1::CommitSegmentResponse reply;
  for (const auto& [session, code] :
       {std::pair("sessions/alice", grpc::StatusCode::OK),
        std::pair("sessions/nobody", grpc::StatusCode::NOT_FOUND),
        std::pair("alice", grpc::StatusCode::INVALID_ARGUMENT)}) {
    request.set_session(session);
    Call call;
    EXPECT_EQ(memory_->CommitSegment(&call, request, &reply).error_code(),
              code);
  }
  EXPECT_EQ(reply.segment_tokens(), 3);
  EXPECT_EQ(reply.state_tier(), v1::Session::REPLAYED);
  EXPECT_EQ(reply.tokens_replayed(), 42);
  EXPECT_EQ(reply.load_time().seconds(), 2);
}

TEST_F(SessionsServiceTest, TextIsTokenizedWithoutASession) {
  v1::TokenizeRequest request;
  request.set_model("models/tiny");
  request.set_text("ab");
  request.set_add_bos(true);
  Call tokenizing;
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(memory_->Tokenize(&tokenizing, request, &tokens).ok());
  EXPECT_THAT(tokens.tokens(), testing::ElementsAre(7, 'a', 'b'));
  EXPECT_THAT(tokens.byte_lengths(), testing::ElementsAre(0, 1, 1));

  v1::CountTokensRequest count;
  count.set_model("models/tiny");
  count.set_text("abc");
  Call counting;
  v1::CountTokensResponse counted;
  ASSERT_TRUE(memory_->CountTokens(&counting, count, &counted).ok());
  EXPECT_EQ(counted.tokens(), 3);

  v1::DetokenizeRequest detokenize;
  detokenize.set_model("models/tiny");
  detokenize.add_tokens('x');
  Call detokenizing;
  v1::DetokenizeResponse text;
  ASSERT_TRUE(memory_->Detokenize(&detokenizing, detokenize, &text).ok());
  EXPECT_EQ(text.text(), "x");

  for (const auto& [model, code] :
       {std::pair("tiny", grpc::StatusCode::INVALID_ARGUMENT),
        std::pair("models/none", grpc::StatusCode::NOT_FOUND)}) {
    request.set_model(model);
    Call refused;
    EXPECT_EQ(memory_->Tokenize(&refused, request, &tokens).error_code(), code);
  }
}

TEST_F(SessionsServiceTest, ModelsAreListedAndShown) {
  ASSERT_TRUE(engine_.LoadModel("big", "").ok());
  Call listing;
  v1::ListModelsRequest request;
  request.set_page_size(1);
  v1::ListModelsResponse page;
  ASSERT_TRUE(models_->ListModels(&listing, request, &page).ok());
  ASSERT_EQ(page.models_size(), 1);
  EXPECT_EQ(page.models(0).name(), "models/big");
  Call next;
  request.set_page_token(page.next_page_token());
  page.Clear();
  ASSERT_TRUE(models_->ListModels(&next, request, &page).ok());
  ASSERT_EQ(page.models_size(), 1);
  EXPECT_EQ(page.models(0).name(), "models/tiny");
  EXPECT_TRUE(page.next_page_token().empty());

  Call getting;
  v1::GetModelRequest get;
  get.set_name("models/tiny");
  v1::Model model;
  ASSERT_TRUE(models_->GetModel(&getting, get, &model).ok());
  EXPECT_EQ(model.state_bytes(), 1000);
  EXPECT_EQ(model.state(), v1::Model::LOADED);
}

TEST_F(SessionsServiceTest, ACallWithoutADeadlineHasTheServers) {
  engine_.HoldDescriptions(true);
  grpc::ClientContext call;  // no deadline
  v1::GetSessionRequest request;
  request.set_name("sessions/alice");
  const grpc::Status late = sessions_->GetSession(&call, request, &session_);
  EXPECT_EQ(late.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(late.error_message(), HasSubstr("default deadline of 1s"));
  engine_.HoldDescriptions(false);  // the answer that comes now is dropped
  EXPECT_TRUE(Get("sessions/alice").ok());
  EXPECT_THAT(MetricsText(),
              HasSubstr("mneme_rpc_in_flight{method=\"mneme.v1.Sessions/"
                        "GetSession\"} 0"));
}

}  // namespace
}  // namespace mneme::server
