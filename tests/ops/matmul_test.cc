// SPDX-License-Identifier: Apache-2.0
//
// Matmul on both paths, and GatherRows, which reads the same matrices.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "tests/ops/conformance.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

constexpr int64_t kIns[] = {1, 3, 16, 17, 48, 96, 100, 768};
constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 17, 63, 64};
// Around the widths of the panels that a product is split into.
constexpr int64_t kOuts[] = {1, 7, 31, 32, 33, 255, 256, 257, 300};

// Sums of `in` products of numbers below 1: a rounding each, most of them in
// several short sums.
double Tolerance(int64_t in) {
  return 1e-6 * (1.0 + static_cast<double>(in) / 16.0);
}

class MatmulTest : public ConformanceTest {
 protected:
  static Operand Product(Backend& backend, ComputePath path,
                         const Matrix& weight, const Operand& x) {
    Operand y(x.rows(), weight.out());
    backend.Matmul(path, weight, x.view(), y.view());
    EXPECT_THAT(backend.Finish(), IsOk());
    return y;
  }

  Random random_{1};
};

TEST_P(MatmulTest, AgreesWithTheReferenceOnEverySize) {
  for (const int64_t in : kIns) {
    for (const int64_t out : kOuts) {
      const std::vector<float> values = RandomValues(out * in, 1.0f, random_);
      const auto wanted_weight = Prepare(reference(), out, in, values);
      const auto weight = Prepare(cpu(), out, in, values);
      const auto weight_of_two = Prepare(cpu(2), out, in, values);
      const Operand all = Operand::Uniform(64, in, 1.0f, random_);
      const Operand wanted =
          Product(reference(), ComputePath::kStep, *wanted_weight, all);
      for (const int64_t rows : kRows) {
        const Operand x = all.Slice(0, rows);
        for (const ComputePath path : kBothPaths) {
          const Operand y = Product(cpu(), path, *weight, x);
          ASSERT_TRUE(Near(y, wanted.Slice(0, rows), Tolerance(in)))
              << PathName(path) << ", " << rows << " rows [" << out << "," << in
              << "]";
          ASSERT_TRUE(Identical(Product(cpu(2), path, *weight_of_two, x), y))
              << PathName(path) << " on two threads, " << rows << " rows ["
              << out << "," << in << "]";
        }
      }
    }
  }
}

TEST_P(MatmulTest, TheNumberOfThreadsChangesNoBit) {
  const int64_t in = 100;
  const int64_t out = 700;  // two whole panels and a rest
  const std::vector<float> values = RandomValues(out * in, 1.0f, random_);
  const Operand x = Operand::Uniform(200, in, 1.0f, random_);
  for (const ComputePath path : kBothPaths) {
    const Operand wanted =
        Product(cpu(), path, *Prepare(cpu(), out, in, values), x);
    for (int threads = 2; threads <= kMaxThreads; ++threads) {
      const auto weight = Prepare(cpu(threads), out, in, values);
      for (int round = 0; round < 5; ++round) {
        ASSERT_TRUE(Identical(Product(cpu(threads), path, *weight, x), wanted))
            << PathName(path) << " on " << threads << " threads";
      }
    }
  }
}

TEST_P(MatmulTest, AStepRowDoesNotDependOnItsNeighboursOrItsPlace) {
  for (const int64_t in : {1, 17, 100, 768}) {
    for (const int64_t out : {1, 7, 33, 300}) {
      const auto weight =
          Prepare(cpu(2), out, in, RandomValues(out * in, 1.0f, random_));
      const Operand x = Operand::Uniform(13, in, 1.0f, random_);
      Operand alone(13, out);
      for (int64_t row = 0; row < 13; ++row) {
        const Operand y =
            Product(cpu(2), ComputePath::kStep, *weight, x.Slice(row, 1));
        std::copy_n(y.view().row(0), out, alone.view().row(row));
      }
      for (int64_t rows = 2; rows <= 13; ++rows) {
        std::vector<int64_t> places(rows);
        for (int64_t& place : places) place = random_() % 13;
        ASSERT_TRUE(Identical(
            Product(cpu(2), ComputePath::kStep, *weight, x.Pick(places)),
            alone.Pick(places)))
            << rows << " rows [" << out << "," << in << "]";
      }
    }
  }
}

TEST_P(MatmulTest, AStepWritesNothingBehindItsRows) {
  const auto weight =
      Prepare(cpu(2), 300, 48, RandomValues(300 * 48, 1.0f, random_));
  Operand y(7, 300);
  y.FillRoomBehind(5.0f);
  cpu(2).Matmul(ComputePath::kStep, *weight,
                Operand::Uniform(7, 48, 1.0f, random_).view(), y.view());
  for (int64_t row = 7; row < 64; ++row) {
    for (int64_t col = 0; col < 300; ++col) ASSERT_EQ(y.at(row, col), 5.0f);
  }
}

TEST_P(MatmulTest, ABlockOfManyGroupsIsEachGroupAlone) {
  const int64_t in = 96;
  for (const int64_t out : {33, 300}) {
    const auto weight =
        Prepare(cpu(2), out, in, RandomValues(out * in, 1.0f, random_));
    const Operand x = Operand::Uniform(64 * 3 + 5, in, 1.0f, random_);
    const Operand y = Product(cpu(2), ComputePath::kBlock, *weight, x);
    for (int64_t first = 0; first < x.rows(); first += 64) {
      const int64_t rows = std::min<int64_t>(64, x.rows() - first);
      EXPECT_TRUE(Identical(
          y.Slice(first, rows),
          Product(cpu(2), ComputePath::kBlock, *weight, x.Slice(first, rows))))
          << "rows from " << first;
    }
  }
}

TEST_P(MatmulTest, WhatLiesBehindTheRowsOfABlockDoesNotReachThem) {
  for (const int64_t out : {7, 300}) {
    const auto weight =
        Prepare(cpu(), out, 48, RandomValues(out * 48, 1.0f, random_));
    Operand x = Operand::Uniform(5, 48, 1.0f, random_);
    const Operand beside_nan = Product(cpu(), ComputePath::kBlock, *weight, x);
    for (const float value : {0.0f, 3.0f, 3e38f}) {
      x.FillRoomBehind(value);
      EXPECT_TRUE(Identical(Product(cpu(), ComputePath::kBlock, *weight, x),
                            beside_nan))
          << value;
    }
  }
}

TEST_P(MatmulTest, ZerosGiveZeros) {
  for (const ComputePath path : kBothPaths) {
    const auto weight =
        Prepare(cpu(), 33, 17, RandomValues(33 * 17, 1.0f, random_));
    const Operand zeros = Operand::Uniform(5, 17, 0.0f, random_);
    EXPECT_TRUE(Near(Product(cpu(), path, *weight, zeros),
                     Operand::Uniform(5, 33, 0.0f, random_), 0.0))
        << PathName(path);
  }
}

TEST_P(MatmulTest, AWeightMayLieAtAnyAddress) {
  const int64_t out = 7;
  const int64_t in = 17;
  const std::vector<float> values = RandomValues(out * in, 1.0f, random_);
  const Operand x = Operand::Uniform(3, in, 1.0f, random_);
  const Operand wanted =
      Product(cpu(), ComputePath::kStep, *Prepare(cpu(), out, in, values), x);
  for (int offset = 1; offset < 8; ++offset) {
    std::vector<char> bytes(values.size() * 4 + offset);
    std::memcpy(&bytes[offset], values.data(), values.size() * 4);
    for (Backend* backend : {&cpu(), &reference()}) {
      const auto weight =
          backend->PrepareMatrix({.data = &bytes[offset], .shape = {out, in}});
      ASSERT_THAT(weight, IsOk());
      EXPECT_TRUE(Near(Product(*backend, ComputePath::kStep, **weight, x),
                       wanted, Tolerance(in)));
    }
  }
}

TEST_P(MatmulTest, AMatrixKnowsItsSizesAndHoldsItsNumbers) {
  for (Backend* backend : {&cpu(), &reference()}) {
    const auto weight =
        Prepare(*backend, 5, 100, RandomValues(500, 1.0f, random_));
    EXPECT_EQ(weight->out(), 5);
    EXPECT_EQ(weight->in(), 100);
    EXPECT_GE(weight->bytes(), 5 * 100 * 4);
  }
}

TEST_P(MatmulTest, GatheredRowsAreTheWeightsOwnBits) {
  const int64_t out = 300;
  for (const int64_t in : {1, 17, 768}) {
    const std::vector<float> values = RandomValues(out * in, 1.0f, random_);
    const std::vector<int32_t> ids = {0, 299, 7, 7, 150};
    Operand wanted(5, in);
    for (int64_t i = 0; i < 5; ++i) {
      std::copy_n(&values[ids[i] * in], in, wanted.view().row(i));
    }
    for (Backend* backend : {&reference(), &cpu(1), &cpu(2)}) {
      Operand y(5, in);
      backend->GatherRows(*Prepare(*backend, out, in, values), ids, 1.0f,
                          y.view());
      EXPECT_TRUE(Identical(y, wanted)) << backend->name();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, MatmulTest,
                         testing::ValuesIn(CompiledTargets()), TargetTestName);

}  // namespace
}  // namespace mneme
