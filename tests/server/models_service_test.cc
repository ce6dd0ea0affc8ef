// SPDX-License-Identifier: Apache-2.0
#include "tests/server/server_fixture.h"

namespace mneme::server {
namespace {

using ::testing::HasSubstr;

class ModelsServiceTest : public ServerFixture {
 protected:
  grpc::Status Load(const std::string& name) {
    Call call;
    v1::LoadModelRequest request;
    request.set_name(name);
    return models_->LoadModel(&call, request, &operation_);
  }
  grpc::Status Unload(const std::string& name, bool force) {
    Call call;
    v1::UnloadModelRequest request;
    request.set_name(name);
    request.set_force(force);
    return models_->UnloadModel(&call, request, &model_);
  }
  grpc::Status Get(const std::string& name) {
    Call call;
    v1::GetModelRequest request;
    request.set_name(name);
    return models_->GetModel(&call, request, &model_);
  }
  // The operation's end.
  grpc::Status Await() {
    Call call;
    v1::GetOperationRequest request;
    request.set_name(operation_.name());
    request.mutable_wait()->set_seconds(10);
    return operations_->GetOperation(&call, request, &operation_);
  }

  v1::Operation operation_;
  v1::Model model_;
};

TEST_F(ModelsServiceTest, AModelOfTheConfigurationIsLoadedByAnOperation) {
  ASSERT_TRUE(Get("models/big").ok());
  EXPECT_EQ(model_.state(), v1::Model::UNLOADED);
  ASSERT_TRUE(Load("models/big").ok());
  EXPECT_THAT(operation_.name(), HasSubstr("operations/"));
  EXPECT_EQ(operation_.method(), "mneme.v1.Models.LoadModel");
  EXPECT_EQ(operation_.target(), "models/big");
  ASSERT_TRUE(Await().ok());
  ASSERT_TRUE(operation_.done());
  EXPECT_TRUE(operation_.has_end_time());
  ASSERT_TRUE(operation_.response().UnpackTo(&model_));
  EXPECT_EQ(model_.state(), v1::Model::LOADED);
  EXPECT_EQ(model_.weight_dtype(), "f32");
  EXPECT_THAT(MetricsText(),
              HasSubstr("mneme_append_tokens_total{model=\"big"));

  const grpc::Status again = Load("models/big");
  EXPECT_EQ(again.error_code(), grpc::StatusCode::ALREADY_EXISTS);

  ASSERT_TRUE(Unload("models/big", true).ok());
  EXPECT_EQ(model_.state(), v1::Model::UNLOADED);
  EXPECT_THAT(MetricsText(), Not(HasSubstr("model=\"big")));
  EXPECT_THAT(MetricsText(), HasSubstr("model=\"tiny"));
}

TEST_F(ModelsServiceTest, WhatTheConfigurationDoesNotNameIsNotLoaded) {
  for (const char* name : {"models/other", "models/..", "models/a/b", "/etc"}) {
    const grpc::Status status = Load(name);
    EXPECT_FALSE(status.ok()) << name;
    EXPECT_THAT(ReasonOf(status),
                ::testing::AnyOf("MODEL_NOT_FOUND", "BAD_FIELD"));
  }
}

TEST_F(ModelsServiceTest, AFailedLoadIsTheOperationsErrorAndTheModelsState) {
  engine_.FailNextLoad(absl::InvalidArgumentError("tensor \"x\" is missing"));
  ASSERT_TRUE(Load("models/big").ok());
  ASSERT_TRUE(Await().ok());
  ASSERT_TRUE(operation_.has_error());
  EXPECT_EQ(operation_.error().code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(operation_.error().message(), HasSubstr("tensor \"x\""));
  ASSERT_TRUE(Get("models/big").ok());
  EXPECT_EQ(model_.state(), v1::Model::FAILED);
  EXPECT_THAT(model_.state_detail(), HasSubstr("tensor \"x\""));
}

TEST_F(ModelsServiceTest, AModelInUseStaysUnlessForced) {
  const grpc::Status status = Unload("models/tiny", false);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(ReasonOf(status), "MODEL_IN_USE");
  EXPECT_TRUE(Unload("models/tiny", true).ok());
  EXPECT_EQ(model_.state(), v1::Model::UNLOADED);
}

TEST_F(ModelsServiceTest, ListShowsWhatIsAndWhatCouldBeLoaded) {
  Call call;
  v1::ListModelsRequest request;
  request.set_page_size(1);
  v1::ListModelsResponse page;
  ASSERT_TRUE(models_->ListModels(&call, request, &page).ok());
  EXPECT_EQ(page.models(0).name(), "models/big");
  request.set_page_token(page.next_page_token());
  Call next;
  ASSERT_TRUE(models_->ListModels(&next, request, &page).ok());
  EXPECT_EQ(page.models(0).name(), "models/tiny");
  EXPECT_TRUE(page.next_page_token().empty());
}

TEST_F(ModelsServiceTest, OperationsAreListedNewestFirstAndUnknownOnesNamed) {
  ASSERT_TRUE(Load("models/big").ok());
  const std::string first = operation_.name();
  ASSERT_TRUE(Await().ok());
  ASSERT_TRUE(Unload("models/big", true).ok());
  ASSERT_TRUE(Load("models/big").ok());
  const std::string second = operation_.name();
  Call call;
  v1::ListOperationsRequest request;
  request.set_page_size(1);
  v1::ListOperationsResponse page;
  ASSERT_TRUE(operations_->ListOperations(&call, request, &page).ok());
  EXPECT_EQ(page.operations(0).name(), second);
  request.set_page_token(page.next_page_token());
  Call next;
  ASSERT_TRUE(operations_->ListOperations(&next, request, &page).ok());
  EXPECT_EQ(page.operations(0).name(), first);
  EXPECT_TRUE(page.next_page_token().empty());

  operation_.set_name("operations/none");
  const grpc::Status status = Await();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(status), "OPERATION_NOT_FOUND");
}

TEST_F(ModelsServiceTest, AWaitEndsWithItsTime) {
  engine_.HoldLoads(true);
  ASSERT_TRUE(Load("models/big").ok());
  Call call;
  v1::GetOperationRequest request;
  request.set_name(operation_.name());
  request.mutable_wait()->set_nanos(50'000'000);
  ASSERT_TRUE(operations_->GetOperation(&call, request, &operation_).ok());
  EXPECT_FALSE(operation_.done());
  Call cancel;
  v1::CancelOperationRequest stop;
  stop.set_name(operation_.name());
  ASSERT_TRUE(operations_->CancelOperation(&cancel, stop, &operation_).ok());
  engine_.HoldLoads(false);
}

TEST_F(ModelsServiceTest, AWaitOfWrongLengthIsRefused) {
  ASSERT_TRUE(Load("models/big").ok());
  for (const int seconds : {-1, 61}) {
    Call call;
    v1::GetOperationRequest request;
    request.set_name(operation_.name());
    request.mutable_wait()->set_seconds(seconds);
    EXPECT_EQ(
        operations_->GetOperation(&call, request, &operation_).error_code(),
        grpc::StatusCode::INVALID_ARGUMENT);
  }
}

}  // namespace
}  // namespace mneme::server
