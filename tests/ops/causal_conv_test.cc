// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/ops/conformance.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

constexpr int64_t kChannels[] = {1, 3, 16, 17, 48, 100, 768};
// Shorter than the window, as long, longer; some on several pieces of rows.
const std::vector<int64_t> kSliceRows[] = {
    {1}, {2}, {3}, {5}, {64}, {1, 1, 1}, {2, 1, 9, 4, 1}, {130}};

class CausalConvTest : public ConformanceTest {
 protected:
  struct Weights {
    int64_t taps = 0;
    std::vector<float> weight;
    std::vector<float> bias;

    CausalConvParams params() const {
      return {.taps = taps, .weight = weight.data(), .bias = bias.data()};
    }
  };

  struct Result {
    Operand y;
    std::vector<std::vector<float>> next_windows;  // by slice
  };

  Weights MakeWeights(int64_t taps, int64_t channels) {
    return {.taps = taps,
            .weight = RandomValues(taps * channels, 1.0f, random_),
            .bias = RandomValues(channels, 1.0f, random_)};
  }
  std::vector<std::vector<float>> MakeWindows(size_t slices, int64_t taps,
                                              int64_t channels) {
    std::vector<std::vector<float>> windows(slices);
    for (auto& window : windows) {
      window = RandomValues((taps - 1) * channels, 1.0f, random_);
    }
    return windows;
  }

  static Result Convolve(Backend& backend, const Weights& weights,
                         const Operand& x,
                         const std::vector<int64_t>& slice_rows,
                         const std::vector<std::vector<float>>& windows) {
    Result result{.y = Operand(x.rows(), x.cols()), .next_windows = windows};
    std::vector<CausalConvSlice> slices;
    int64_t first_row = 0;
    for (size_t i = 0; i < slice_rows.size(); ++i) {
      std::fill(result.next_windows[i].begin(), result.next_windows[i].end(),
                77.0f);
      slices.push_back({.first_row = first_row,
                        .rows = slice_rows[i],
                        .window = windows[i].data(),
                        .next_window = result.next_windows[i].data()});
      first_row += slice_rows[i];
    }
    backend.CausalConv(weights.params(), x.view(), slices, result.y.view());
    EXPECT_THAT(backend.Finish(), IsOk());
    return result;
  }

  static int64_t Sum(const std::vector<int64_t>& values) {
    int64_t sum = 0;
    for (const int64_t value : values) sum += value;
    return sum;
  }

  Random random_{3};
};

TEST_P(CausalConvTest, AgreesWithTheReferenceOnEverySize) {
  for (int64_t taps = 1; taps <= 5; ++taps) {
    for (const int64_t channels : kChannels) {
      const Weights weights = MakeWeights(taps, channels);
      for (const std::vector<int64_t>& slice_rows : kSliceRows) {
        const Operand x =
            Operand::Uniform(Sum(slice_rows), channels, 1.0f, random_);
        const auto windows = MakeWindows(slice_rows.size(), taps, channels);
        const Result wanted =
            Convolve(reference(), weights, x, slice_rows, windows);
        for (int threads = 1; threads <= 2; ++threads) {
          const Result found =
              Convolve(cpu(threads), weights, x, slice_rows, windows);
          ASSERT_TRUE(Near(found.y, wanted.y, 2e-6))
              << taps << " taps of " << channels;
          ASSERT_EQ(found.next_windows, wanted.next_windows)
              << taps << " taps of " << channels;
        }
      }
    }
  }
}

TEST_P(CausalConvTest, ThreadsNeighboursAndPlaceChangeNoBit) {
  const int64_t taps = 4;
  for (const int64_t channels : {17, 768}) {
    const Weights weights = MakeWeights(taps, channels);
    const std::vector<int64_t> slice_rows = {3, 1, 40, 2};
    const Operand x =
        Operand::Uniform(Sum(slice_rows), channels, 1.0f, random_);
    const auto windows = MakeWindows(slice_rows.size(), taps, channels);
    const Result together = Convolve(cpu(), weights, x, slice_rows, windows);
    for (int threads = 2; threads <= kMaxThreads; ++threads) {
      EXPECT_TRUE(
          Identical(Convolve(cpu(threads), weights, x, slice_rows, windows).y,
                    together.y));
    }
    int64_t first = 0;
    for (size_t i = 0; i < slice_rows.size(); ++i) {
      const Result alone =
          Convolve(cpu(), weights, x.Slice(first, slice_rows[i]),
                   {slice_rows[i]}, {windows[i]});
      EXPECT_TRUE(Identical(alone.y, together.y.Slice(first, slice_rows[i])));
      EXPECT_EQ(alone.next_windows[0], together.next_windows[i]);
      first += slice_rows[i];
    }
  }
}

TEST_P(CausalConvTest, AnyCutOfASequenceGivesTheSameBits) {
  const int64_t channels = 17;
  for (int64_t taps = 1; taps <= 5; ++taps) {
    const Weights weights = MakeWeights(taps, channels);
    const Operand x = Operand::Uniform(9, channels, 1.0f, random_);
    const auto windows = MakeWindows(1, taps, channels);
    for (Backend* backend : {&reference(), &cpu()}) {
      const Result whole = Convolve(*backend, weights, x, {9}, windows);
      for (int64_t cut = 1; cut < 9; ++cut) {
        const Result head =
            Convolve(*backend, weights, x.Slice(0, cut), {cut}, windows);
        const Result tail = Convolve(*backend, weights, x.Slice(cut, 9 - cut),
                                     {9 - cut}, head.next_windows);
        EXPECT_TRUE(Identical(head.y, whole.y.Slice(0, cut)));
        EXPECT_TRUE(Identical(tail.y, whole.y.Slice(cut, 9 - cut)));
        EXPECT_EQ(tail.next_windows, whole.next_windows)
            << taps << " taps, cut at " << cut;
      }
    }
  }
}

TEST_P(CausalConvTest, TheWindowIsOnlyReadAndNeedNotBeKept) {
  const int64_t channels = 16;
  const Weights weights = MakeWeights(3, channels);
  const Operand x = Operand::Uniform(2, channels, 1.0f, random_);
  const auto windows = MakeWindows(1, 3, channels);
  for (Backend* backend : {&reference(), &cpu()}) {
    std::vector<float> window = windows[0];
    Operand y(2, channels);
    const CausalConvSlice slice{.rows = 2, .window = window.data()};
    backend->CausalConv(weights.params(), x.view(), {slice}, y.view());
    EXPECT_EQ(window, windows[0]);
    EXPECT_TRUE(Identical(y, Convolve(*backend, weights, x, {2}, windows).y));
  }
}

TEST_P(CausalConvTest, TheLastTapIsTheTokenItself) {
  const std::vector<float> weight = {100.0f, 10.0f, 1.0f};  // [taps, 1]
  const std::vector<float> bias = {0.5f};
  const Weights weights{.taps = 3, .weight = weight, .bias = bias};
  Operand x(3, 1);
  for (int64_t row = 0; row < 3; ++row) {
    x.at(row, 0) = static_cast<float>(row + 3);
  }
  for (Backend* backend : {&reference(), &cpu()}) {
    const Result result = Convolve(*backend, weights, x, {3}, {{1.0f, 2.0f}});
    EXPECT_EQ(result.y.at(0, 0), 123.5f);
    EXPECT_EQ(result.y.at(1, 0), 234.5f);
    EXPECT_EQ(result.y.at(2, 0), 345.5f);
    EXPECT_EQ(result.next_windows[0], (std::vector<float>{4.0f, 5.0f}));
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, CausalConvTest,
                         testing::ValuesIn(CompiledTargets()), TargetTestName);

}  // namespace
}  // namespace mneme
