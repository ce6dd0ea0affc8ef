// SPDX-License-Identifier: Apache-2.0
//
// The operations that treat each row, or each number, alone.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/ops/conformance.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

constexpr int64_t kCols[] = {1, 2, 3, 7, 16, 17, 31, 48, 96, 100, 768, 1024};
constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 17, 63, 64, 130};
constexpr float kEps = 1e-6f;

// One of the operations, over fixed parameters. Reads `x` and, if it wants a
// second operand, `other`; the result is what is written.
struct Operation {
  const char* name;
  double tolerance;
  std::function<Operand(Backend&, const Operand& x, const Operand& other)>
      apply;
};

class RowOperationsTest : public ConformanceTest {
 protected:
  // Parameters of operations over `cols` columns.
  struct Parameters {
    std::vector<float> weight;
    std::vector<float> bias;
  };

  Parameters MakeParameters(int64_t cols) {
    return {.weight = RandomValues(cols, 2.0f, random_),
            .bias = RandomValues(cols, 1.0f, random_)};
  }

  static auto Activating(Activation activation, bool with_up) {
    return [=](Backend& backend, const Operand& x, const Operand& other) {
      Operand gate = x;
      backend.Activate(activation,
                       with_up ? ConstRows(other.view()) : ConstRows(),
                       gate.view());
      return gate;
    };
  }

  // All of them. The tolerances are for inputs below 4.
  static std::vector<Operation> Operations(const Parameters& p) {
    return {
        {"RmsNorm", 1e-5,
         [&p](Backend& backend, const Operand& x, const Operand&) {
           Operand y(x.rows(), x.cols());
           backend.RmsNorm(x.view(), p.weight, kEps, y.view());
           return y;
         }},
        {"RmsNorm in place", 1e-5,
         [&p](Backend& backend, const Operand& x, const Operand&) {
           Operand y = x;
           backend.RmsNorm(y.view(), p.weight, kEps, y.view());
           return y;
         }},
        {"Accumulate", 0.0,
         [](Backend& backend, const Operand& x, const Operand& other) {
           Operand y = x;
           backend.Accumulate(other.view(), y.view());
           return y;
         }},
        {"silu times up", 4e-6, Activating(Activation::kSilu, true)},
        {"silu", 4e-6, Activating(Activation::kSilu, false)},
        {"sigmoid times up", 4e-6, Activating(Activation::kSigmoid, true)},
        {"gelu (tanh) times up", 4e-6, Activating(Activation::kGeluTanh, true)},
        {"gelu (tanh)", 4e-6, Activating(Activation::kGeluTanh, false)},
        {"gelu (erf) times up", 4e-6, Activating(Activation::kGeluErf, true)},
        {"gelu (erf)", 4e-6, Activating(Activation::kGeluErf, false)},
        {"relu", 0.0, Activating(Activation::kRelu, false)},
        {"ScaledSigmoid", 1e-6,
         [&p](Backend& backend, const Operand& x, const Operand&) {
           Operand y = x;
           backend.ScaledSigmoid(p.bias, 0.25f, y.view());
           return y;
         }},
        {"ScaledHardSigmoid", 2e-6,
         [&p](Backend& backend, const Operand& x, const Operand&) {
           Operand y = x;
           backend.ScaledHardSigmoid(p.bias, 2.0f, 0.5f, y.view());
           return y;
         }},
        {"NormaliseHeads, one", 1e-6,
         [](Backend& backend, const Operand& x, const Operand&) {
           Operand y = x;
           backend.NormaliseHeads(x.cols(), 0.01f, y.view());
           return y;
         }},
        {"NormaliseHeads of one number", 1e-6,
         [](Backend& backend, const Operand& x, const Operand&) {
           Operand y = x;
           backend.NormaliseHeads(1, 0.01f, y.view());
           return y;
         }},
        {"LayerNorm", 2e-5,
         [&p](Backend& backend, const Operand& x, const Operand&) {
           Operand y(x.rows(), x.cols());
           backend.LayerNorm(x.view(), p.weight, p.bias, kEps, y.view());
           return y;
         }},
        {"LayerNorm in place", 2e-5,
         [&p](Backend& backend, const Operand& x, const Operand&) {
           Operand y = x;
           backend.LayerNorm(y.view(), p.weight, p.bias, kEps, y.view());
           return y;
         }},
    };
  }

  Random random_{2};
};

TEST_P(RowOperationsTest, AgreeWithTheReferenceOnEverySize) {
  for (const int64_t cols : kCols) {
    const Parameters parameters = MakeParameters(cols);
    for (const int64_t rows : kRows) {
      const Operand x = Operand::Uniform(rows, cols, 4.0f, random_);
      const Operand other = Operand::Uniform(rows, cols, 4.0f, random_);
      for (const Operation& operation : Operations(parameters)) {
        const Operand found = operation.apply(cpu(), x, other);
        ASSERT_TRUE(Near(found, operation.apply(reference(), x, other),
                         operation.tolerance))
            << operation.name << " [" << rows << "," << cols << "]";
        for (int threads = 2; threads <= kMaxThreads; ++threads) {
          ASSERT_TRUE(Identical(operation.apply(cpu(threads), x, other), found))
              << operation.name << " [" << rows << "," << cols << "] on "
              << threads << " threads";
        }
        ASSERT_THAT(cpu().Finish(), IsOk());
      }
    }
  }
}

TEST_P(RowOperationsTest, ARowDoesNotDependOnItsNeighboursOrItsPlace) {
  for (const int64_t cols : {1, 17, 100, 768}) {
    const Parameters parameters = MakeParameters(cols);
    const Operand x = Operand::Uniform(11, cols, 4.0f, random_);
    const Operand other = Operand::Uniform(11, cols, 4.0f, random_);
    for (const Operation& operation : Operations(parameters)) {
      const Operand all = operation.apply(cpu(2), x, other);
      for (int64_t row = 0; row < 11; ++row) {
        ASSERT_TRUE(Identical(
            operation.apply(cpu(2), x.Slice(row, 1), other.Slice(row, 1)),
            all.Slice(row, 1)))
            << operation.name << " row " << row << " of " << cols;
      }
      std::vector<int64_t> places(23);
      for (int64_t& place : places) place = random_() % 11;
      ASSERT_TRUE(
          Identical(operation.apply(cpu(2), x.Pick(places), other.Pick(places)),
                    all.Pick(places)))
          << operation.name;
    }
  }
}

TEST_P(RowOperationsTest, RowsOfZerosAndOfEqualNumbersStayFinite) {
  for (const int64_t cols : {1, 17, 100}) {
    const Parameters parameters = MakeParameters(cols);
    Operand x(3, cols);
    for (int64_t col = 0; col < cols; ++col) {
      x.at(0, col) = 0.0f;
      x.at(1, col) = 3.0f;
      x.at(2, col) = -0.0f;
    }
    const Operand other = Operand::Uniform(3, cols, 4.0f, random_);
    for (const Operation& operation : Operations(parameters)) {
      EXPECT_TRUE(Near(operation.apply(cpu(), x, other),
                       operation.apply(reference(), x, other),
                       // The mean of equal numbers is not always their bits,
                       // and the root of eps divides the difference.
                       std::max(operation.tolerance, 2e-3)))
          << operation.name << " of " << cols;
    }
  }
}

TEST_P(RowOperationsTest, AVarianceFarBelowTheMeanSurvives) {
  const int64_t cols = 64;
  const std::vector<float> ones(cols, 1.0f);
  const std::vector<float> zeros(cols, 0.0f);
  Operand x(1, cols);
  for (int64_t col = 0; col < cols; ++col) {
    x.at(0, col) = 1000.0f + (col % 2 == 0 ? 0.5f : -0.5f);
  }
  for (Backend* backend : {&reference(), &cpu()}) {
    Operand y = x;
    backend->LayerNorm(y.view(), ones, zeros, kEps, y.view());
    for (int64_t col = 0; col < cols; ++col) {
      ASSERT_NEAR(y.at(0, col), col % 2 == 0 ? 1.0f : -1.0f, 1e-3f)
          << backend->name();
    }
  }
}

// One row of numbers that exponentials are afraid of.
Operand Extremes() {
  const std::vector<float> values = {
      0.0f,  -0.0f,  1e-30f, -1e-30f, 1.0f,   -1.0f,   10.0f,  -10.0f,
      17.0f, -17.0f, 40.0f,  -40.0f,  80.0f,  -80.0f,  87.0f,  -87.0f,
      88.0f, -88.0f, 89.0f,  -89.0f,  104.0f, -104.0f, 300.0f, -300.0f,
      1e4f,  -1e4f,  1e8f,   -1e8f,   1e12f,  -1e12f};
  Operand row(1, static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), row.view().row(0));
  return row;
}

// |found - wanted| <= 1e-5 |wanted| + 1e-25 for every number.
void ExpectRelative(const Operand& found, const Operand& wanted,
                    const Operand& x, const char* what) {
  for (int64_t col = 0; col < found.cols(); ++col) {
    EXPECT_NEAR(found.at(0, col), wanted.at(0, col),
                1e-5 * std::abs(wanted.at(0, col)) + 1e-25)
        << what << " of " << x.at(0, col);
  }
}

TEST_P(RowOperationsTest, ActivationsOfExtremesAreRightAndFinite) {
  const Operand x = Extremes();
  for (const auto& [name, activation] :
       {std::pair<const char*, Activation>{"silu", Activation::kSilu},
        {"sigmoid", Activation::kSigmoid},
        {"gelu (tanh)", Activation::kGeluTanh},
        {"gelu (erf)", Activation::kGeluErf},
        {"relu", Activation::kRelu}}) {
    Operand wanted = x;
    Operand found = x;
    reference().Activate(activation, {}, wanted.view());
    cpu().Activate(activation, {}, found.view());
    ExpectRelative(found, wanted, x, name);
  }
}

TEST_P(RowOperationsTest, SigmoidOfExtremesIsRightAndFinite) {
  const Operand x = Extremes();
  const std::vector<float> no_bias(x.cols(), 0.0f);
  Operand wanted = x;
  Operand found = x;
  reference().ScaledSigmoid(no_bias, 2.0f, wanted.view());
  cpu().ScaledSigmoid(no_bias, 2.0f, found.view());
  ExpectRelative(found, wanted, x, "sigmoid");
}

TEST_P(RowOperationsTest, AHardSigmoidIsExactAtItsEndsAndHidesNoNan) {
  for (Backend* backend : {&reference(), &cpu()}) {
    SCOPED_TRACE(std::string(backend->name()));
    // sigmoid(-1.0987) is just above 1/4, where it opens, and so at its top.
    const std::vector<float> logits = {-100.0f, -1.0987f, -1.0f,  0.0f, 1.0f,
                                       1.0987f, 100.0f,   -1.11f, 1.11f};
    Operand x(1, 10);
    for (int i = 0; i < 9; ++i) x.at(0, i) = logits[i];
    x.at(0, 9) = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> no_bias(10, 0.0f);
    backend->ScaledHardSigmoid(no_bias, 2.0f, 3.0f, x.view());
    EXPECT_EQ(x.at(0, 0), 0.0f);
    EXPECT_GE(x.at(0, 1), 0.0f);
    EXPECT_LT(x.at(0, 1), 0.001f);
    EXPECT_NEAR(x.at(0, 2), 3 * (2 / (1 + std::exp(1.0)) - 0.5), 1e-6);
    EXPECT_FLOAT_EQ(x.at(0, 3), 1.5f);
    EXPECT_EQ(x.at(0, 6), 3.0f);
    EXPECT_EQ(x.at(0, 7), 0.0f);
    EXPECT_EQ(x.at(0, 8), 3.0f);
    EXPECT_TRUE(std::isnan(x.at(0, 9)));
  }
}

TEST_P(RowOperationsTest, HeadsAreNormalisedEachByItself) {
  for (const int64_t head_dim : {1, 5, 16, 24}) {
    const Operand x = Operand::Uniform(7, 3 * head_dim, 2.0f, random_);
    Operand wanted = x;
    Operand found = x;
    reference().NormaliseHeads(head_dim, 0.01f, wanted.view());
    cpu(2).NormaliseHeads(head_dim, 0.01f, found.view());
    EXPECT_TRUE(Near(found, wanted, 1e-6)) << head_dim;
    double squares = 0.01;
    for (int64_t i = 0; i < head_dim; ++i) {
      squares += std::pow(x.at(6, head_dim + i), 2);
    }
    EXPECT_NEAR(found.at(6, head_dim), x.at(6, head_dim) / std::sqrt(squares),
                1e-6);
  }
}

// Facts that hold without the reference, for both backends.

TEST_P(RowOperationsTest, KnownValues) {
  for (Backend* backend : {&reference(), &cpu()}) {
    SCOPED_TRACE(std::string(backend->name()));
    Operand x(1, 2);
    x.at(0, 0) = 3.0f;
    x.at(0, 1) = -4.0f;
    const std::vector<float> weight = {1.0f, 2.0f};
    const std::vector<float> bias = {0.5f, 0.25f};

    Operand y(1, 2);
    backend->RmsNorm(x.view(), weight, 0.0f, y.view());
    EXPECT_FLOAT_EQ(y.at(0, 0), 3.0f / std::sqrt(12.5f));
    EXPECT_FLOAT_EQ(y.at(0, 1), -8.0f / std::sqrt(12.5f));

    y = x;
    backend->LayerNorm(y.view(), weight, bias, 0.0f, y.view());
    EXPECT_FLOAT_EQ(y.at(0, 0), 1.5f);
    EXPECT_FLOAT_EQ(y.at(0, 1), -1.75f);

    y = x;
    backend->Activate(Activation::kSilu, x.view(), y.view());
    EXPECT_FLOAT_EQ(y.at(0, 0), 9.0f / (1.0f + std::exp(-3.0f)));
    EXPECT_FLOAT_EQ(y.at(0, 1), 16.0f / (1.0f + std::exp(4.0f)));

    y = x;
    backend->ScaledSigmoid({-3.0f, 4.0f}, 3.0f, y.view());
    EXPECT_FLOAT_EQ(y.at(0, 0), 1.5f);
    EXPECT_FLOAT_EQ(y.at(0, 1), 1.5f);
  }
}

// Bands of one token and of many, in which some logits are large.
TEST_P(RowOperationsTest, AdaptiveLogSoftmaxAgreesWithTheReference) {
  for (const std::vector<int64_t>& ends : std::vector<std::vector<int64_t>>{
           {1}, {100}, {5, 6}, {40, 57, 300}, {1, 2, 3, 70}}) {
    for (const float size : {1.0f, 30.0f, 5000.0f}) {
      const int64_t tails = static_cast<int64_t>(ends.size()) - 1;
      const Operand x = Operand::Uniform(9, ends.back(), size, random_);
      const Operand clusters =
          Operand::Uniform(9, std::max<int64_t>(tails, 1), size, random_);
      const ConstRows of_tails = tails > 0 ? clusters.view() : ConstRows();
      Operand wanted = x;
      Operand found = x;
      Operand threads = x;
      reference().AdaptiveLogSoftmax(ends, of_tails, wanted.view());
      cpu().AdaptiveLogSoftmax(ends, of_tails, found.view());
      cpu(3).AdaptiveLogSoftmax(ends, of_tails, threads.view());
      EXPECT_TRUE(Near(found, wanted, 1e-6 * size + 4e-6)) << ends.back();
      EXPECT_TRUE(Identical(threads, found));
      for (int64_t row = 0; row < 9; ++row) {
        double sum = 0;
        for (int64_t col = 0; col < ends.back(); ++col) {
          sum += std::exp(double{wanted.at(row, col)});
        }
        EXPECT_NEAR(sum, 1.0, 1e-5);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, RowOperationsTest,
                         testing::ValuesIn(CompiledTargets()), TargetTestName);

}  // namespace
}  // namespace mneme
