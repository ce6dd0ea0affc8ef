// SPDX-License-Identifier: Apache-2.0
#include "engine/model/weights.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/ops/reference/reference_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using testing::AllOf;
using testing::ElementsAre;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

class WeightsTest : public testing::Test {
 protected:
  // A checkpoint of "matrix" F32[2,3], "rates" F32[2,1,3] and "ids" I64[3].
  WeightsTest() { Write(values_, "matrix"); }

  void Write(const std::vector<float>& values, const std::string& name) {
    const TensorView matrix{.data = values.data(), .shape = {2, 3}};
    const TensorView rates{.data = values.data(), .shape = {2, 1, 3}};
    const TensorView ids{
        .data = ids_.data(), .dtype = DType::kI64, .shape = {3}};
    ASSERT_THAT(
        WriteSafetensors(dir_.File("model.safetensors"),
                         {{name, matrix}, {"rates", rates}, {"ids", ids}}),
        IsOk());
  }
  Weights Open() {
    absl::StatusOr<Weights> weights = Weights::Open(dir_.path());
    EXPECT_THAT(weights, IsOk());
    return *std::move(weights);
  }

  const TempDir dir_;
  const std::vector<float> values_ = {1, 2, 3, 4, 5, 6};
  const std::vector<int64_t> ids_ = {7, 8, 9};
};

TEST_F(WeightsTest, AFolderWithoutACheckpointIsNotFound) {
  const TempDir empty;
  EXPECT_THAT(Weights::Open(empty.path()),
              Fails(absl::StatusCode::kNotFound, "model.safetensors"));
}

TEST_F(WeightsTest, ATensorIsTakenWithItsNumbers) {
  Weights weights = Open();
  EXPECT_TRUE(weights.Has("matrix"));
  EXPECT_FALSE(weights.Has("Matrix"));
  const absl::StatusOr<Tensor> tensor = weights.TakeTensor("matrix", {2, 3});
  ASSERT_THAT(tensor, IsOk());
  EXPECT_EQ(tensor->shape(), (Shape{2, 3}));
  EXPECT_THAT(tensor->values(), ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST_F(WeightsTest, AMissingTensorIsNamedWithWhatWasWanted) {
  Weights weights = Open();
  EXPECT_THAT(weights.TakeTensor("other", {4, 5}),
              AllOf(Fails(kInvalid, "\"other\" is missing"),
                    Fails(kInvalid, "F32[4,5]")));
}

TEST_F(WeightsTest, AWrongShapeIsNamedWithTheFoundAndTheWanted) {
  Weights weights = Open();
  for (const Shape& shape : {Shape{3, 2}, Shape{6}, Shape{2, 3, 1}, Shape{}}) {
    EXPECT_THAT(weights.TakeTensor("matrix", shape),
                AllOf(Fails(kInvalid, "\"matrix\" is F32[2,3]"),
                      Fails(kInvalid, "want F32" + ShapeString(shape))));
  }
}

TEST_F(WeightsTest, AWrongElementTypeIsNamed) {
  Weights weights = Open();
  EXPECT_THAT(weights.TakeTensor("ids", {3}),
              AllOf(Fails(kInvalid, "\"ids\" is I64[3]"),
                    Fails(kInvalid, "want F32[3]")));
}

TEST_F(WeightsTest, ANumberThatIsNotFiniteIsNamedByItsPlace) {
  const std::unique_ptr<Backend> backend = MakeReferenceBackend();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    std::vector<float> values = values_;
    values[4] = bad;
    Write(values, "matrix");
    Weights weights = Open();
    for (const absl::Status& status :
         {weights.TakeTensor("matrix", {2, 3}).status(),
          weights.TakeMatrix("matrix", {2, 3}, *backend).status()}) {
      EXPECT_THAT(status, AllOf(Fails(kInvalid, "\"matrix\""),
                                Fails(kInvalid, "element 4")));
    }
  }
  std::vector<float> extremes = values_;
  extremes[0] = std::numeric_limits<float>::max();
  extremes[1] = std::numeric_limits<float>::lowest();
  extremes[2] = std::numeric_limits<float>::denorm_min();
  Write(extremes, "matrix");
  EXPECT_THAT(Open().TakeTensor("matrix", {2, 3}), IsOk());
}

TEST_F(WeightsTest, AMatrixIsPreparedByTheBackend) {
  const std::unique_ptr<Backend> backend = MakeReferenceBackend();
  Weights weights = Open();
  const auto matrix = weights.TakeMatrix("matrix", {2, 3}, *backend);
  ASSERT_THAT(matrix, IsOk());
  EXPECT_EQ((*matrix)->out(), 2);
  EXPECT_EQ((*matrix)->in(), 3);
  // A dimension of one in the middle is no dimension.
  const auto rates = weights.TakeMatrix("rates", {2, 1, 3}, *backend);
  ASSERT_THAT(rates, IsOk());
  EXPECT_EQ((*rates)->out(), 2);
  EXPECT_EQ((*rates)->in(), 3);
  EXPECT_THAT(weights.TakeMatrix("matrix", {3, 2}, *backend),
              Fails(kInvalid, "\"matrix\""));
}

TEST_F(WeightsTest, HalvesAreWidened) {
  const std::unique_ptr<Backend> backend = MakeReferenceBackend();
  // 1, -2, 2^-24 in F16; 1, -2, 3 in BF16.
  const std::vector<uint16_t> f16 = {0x3c00, 0xc000, 0x0001};
  const std::vector<uint16_t> bf16 = {0x3f80, 0xc000, 0x4040};
  const std::vector<uint16_t> infinite_f16 = {0, 0x7c00};
  const std::vector<uint16_t> infinite_bf16 = {0, 0, 0xff80};
  ASSERT_THAT(
      WriteSafetensors(
          dir_.File("model.safetensors"),
          {{"f16", {f16.data(), DType::kF16, {1, 3}}},
           {"bf16", {bf16.data(), DType::kBF16, {1, 3}}},
           {"infinite f16", {infinite_f16.data(), DType::kF16, {2}}},
           {"infinite bf16", {infinite_bf16.data(), DType::kBF16, {3}}}}),
      IsOk());
  Weights weights = Open();
  const auto from_f16 = weights.TakeTensor("f16", {1, 3});
  ASSERT_THAT(from_f16, IsOk());
  EXPECT_THAT(from_f16->values(), ElementsAre(1, -2, 0x1p-24f));
  const auto from_bf16 = weights.TakeTensor("bf16", {1, 3});
  ASSERT_THAT(from_bf16, IsOk());
  EXPECT_THAT(from_bf16->values(), ElementsAre(1, -2, 3));
  EXPECT_THAT(weights.TakeTensor("infinite f16", {2}),
              Fails(kInvalid, "element 1"));
  EXPECT_THAT(weights.TakeTensor("infinite bf16", {3}),
              Fails(kInvalid, "element 2"));

  const auto matrix = weights.TakeMatrix("bf16", {1, 3}, *backend);
  ASSERT_THAT(matrix, IsOk());
  EXPECT_EQ((*matrix)->bytes(), 12);  // held as f32
  std::vector<float> row(3);
  backend->GatherRows(**matrix, {0}, 1.0f, {row.data(), 1, 3, 3});
  EXPECT_THAT(row, ElementsAre(1, -2, 3));
}

TEST_F(WeightsTest, ATensorThatNothingTookIsNamed) {
  Weights weights = Open();
  ASSERT_THAT(weights.TakeTensor("matrix", {2, 3}), IsOk());
  ASSERT_THAT(weights.TakeTensor("rates", {2, 1, 3}), IsOk());
  EXPECT_THAT(weights.CheckAllTaken(),
              AllOf(Fails(kInvalid, "\"ids\""), Fails(kInvalid, "I64[3]")));
  weights.Ignore("ids");
  EXPECT_THAT(weights.CheckAllTaken(), IsOk());
}

TEST_F(WeightsTest, AFailedTakeTakesNothing) {
  Weights weights = Open();
  weights.Ignore("ids");
  weights.Ignore("rates");
  EXPECT_THAT(weights.TakeTensor("matrix", {3, 2}),
              Fails(kInvalid, "\"matrix\""));
  EXPECT_THAT(weights.CheckAllTaken(), Fails(kInvalid, "\"matrix\""));
}

TEST_F(WeightsTest, ATensorIsFoundUnderAnotherNameAndInsideAnother) {
  Weights weights = Open();
  weights.SetSources([](const std::string& name) -> TensorSource {
    if (name == "renamed") return {.name = "matrix"};
    if (name == "turned") return {.name = "matrix", .transposed = true};
    if (name == "second row") {
      return {
          .name = "matrix", .all_rows = 2, .first = 1, .run = 1, .period = 2};
    }
    // Of three columns that the file has as rows, the outer two.
    if (name == "outer columns") {
      return {.name = "matrix",
              .transposed = true,
              .all_rows = 3,
              .first = 0,
              .run = 1,
              .period = 2};
    }
    return {.name = name};
  });
  const auto values = [&weights](const char* name, const Shape& shape) {
    const absl::StatusOr<Tensor> tensor = weights.TakeTensor(name, shape);
    EXPECT_THAT(tensor, IsOk());
    return std::vector<float>(tensor->values().begin(), tensor->values().end());
  };
  EXPECT_THAT(values("renamed", {2, 3}), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(values("turned", {3, 2}), ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_THAT(values("second row", {1, 3}), ElementsAre(4, 5, 6));
  EXPECT_THAT(values("outer columns", {2, 2}), ElementsAre(1, 4, 3, 6));
  EXPECT_EQ(weights.elements(), 6);  // of the file, each once
  // What is missing or of another shape is called as the file would.
  EXPECT_THAT(weights.TakeTensor("turned", {2, 3}),
              AllOf(Fails(kInvalid, "\"matrix\" is F32[2,3]"),
                    Fails(kInvalid, "want F32[3,2]")));
}

TEST_F(WeightsTest, ACopyHasToSayTheSame) {
  Weights weights = Open();
  EXPECT_THAT(weights.IgnoreCopy("absent", "matrix", {2, 3}, "why"), IsOk());
  EXPECT_THAT(weights.IgnoreCopy("matrix", "matrix", {2, 3}, "why"), IsOk());
  EXPECT_THAT(weights.IgnoreCopy("matrix", "absent", {2, 3}, "why"),
              Fails(kInvalid, "\"absent\" is missing"));
}

TEST_F(WeightsTest, WhatWasTakenIsCountedAndDigested) {
  Weights weights = Open();
  const std::string nothing = weights.Digest();
  EXPECT_EQ(weights.elements(), 0);
  ASSERT_THAT(weights.TakeTensor("matrix", {2, 3}), IsOk());
  ASSERT_THAT(weights.TakeTensor("rates", {2, 1, 3}), IsOk());
  EXPECT_EQ(weights.elements(), 6 + 6);
  EXPECT_NE(weights.Digest(), nothing);
}

TEST_F(WeightsTest, TheDigestKnowsNamesAndEveryBit) {
  const auto digest_of = [this](const std::string& name) {
    Weights weights = Open();
    EXPECT_THAT(weights.TakeTensor(name, {2, 3}), IsOk());
    return weights.Digest();
  };
  const std::string digest = digest_of("matrix");
  EXPECT_EQ(digest.size(), 64u);
  EXPECT_EQ(digest_of("matrix"), digest);

  Write(values_, "matriy");
  EXPECT_NE(digest_of("matriy"), digest);
  std::vector<float> other = values_;
  other[5] = 6.0000005f;  // one bit
  Write(other, "matrix");
  EXPECT_NE(digest_of("matrix"), digest);
  Write(values_, "matrix");
  EXPECT_EQ(digest_of("matrix"), digest);
}

}  // namespace
}  // namespace mneme
