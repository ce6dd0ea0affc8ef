// SPDX-License-Identifier: Apache-2.0
//
// TTT with tokens and weights that no training would come to.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/ops/conformance.h"
#include "tests/ops/ttt_fixture.h"

namespace mneme {
namespace {

TEST_P(TttTest, WhatIsNotFiniteReachesNoEarlierToken) {
  for (const Sizes& sizes : Both({{3, 16, 5}, {1, 6, 16}, {2, 64, 16}})) {
    const Layer layer(sizes, random_);
    const Memory memory = MakeMemory(sizes, sizes.mini_batch / 3);
    const Tokens tokens = MakeTokens(sizes, 40);
    for (const ComputePath path : kBothPaths) {
      const Result wanted = Read(cpu(2), path, layer, memory, tokens);
      for (const int64_t kept : {1, 3, 15, 16, 39}) {
        for (Operand Tokens::*member :
             {&Tokens::q, &Tokens::k, &Tokens::v, &Tokens::rate}) {
          for (const float bad : {INFINITY, NAN}) {
            Tokens changed = tokens;
            Operand& operand = changed.*member;
            std::fill_n(operand.view().row(kept), operand.cols(), bad);
            EXPECT_TRUE(Identical(
                Read(cpu(2), path, layer, memory, changed).out.Slice(0, kept),
                wanted.out.Slice(0, kept)))
                << PathName(path) << ", " << sizes.ToString() << ", " << bad
                << " in token " << kept;
          }
        }
      }
    }
  }
}

bool AllFinite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(),
                     [](float value) { return std::isfinite(value); });
}

bool AllFinite(const Operand& operand) {
  for (int64_t row = 0; row < operand.rows(); ++row) {
    for (int64_t col = 0; col < operand.cols(); ++col) {
      if (!std::isfinite(operand.at(row, col))) return false;
    }
  }
  return true;
}

bool AllFinite(const Result& result) {
  return AllFinite(result.out) && AllFinite(result.memories[0].weights) &&
         AllFinite(result.memories[0].factors);
}

// To 1e8 each, so that no sum of their products leaves f32. The reference may
// come to other numbers, as f64 cancels where f32 does not, but where it is
// finite so are we.
TEST_P(TttTest, ExtremeNumbersStayFiniteWhereTheReferenceIs) {
  int finite = 0;
  for (const Sizes& sizes : Both({{2, 6, 5}, {1, 16, 16}})) {
    const Layer layer(sizes, random_);
    for (const float weight_size : {0.0f, 1e-40f, 1e-20f, 1e4f, 1e8f}) {
      for (const float token_size : {0.0f, 1e-40f, 1e-20f, 1.0f, 1e4f, 1e8f}) {
        Memory memory = MakeMemory(sizes, 0);
        for (float& weight : memory.weights) weight *= weight_size;
        Tokens tokens = MakeTokens(sizes, 40);
        for (Operand Tokens::*member : {&Tokens::q, &Tokens::k, &Tokens::v}) {
          for (int64_t row = 0; row < 40; ++row) {
            for (int64_t col = 0; col < sizes.dim(); ++col) {
              (tokens.*member).at(row, col) *= token_size;
            }
          }
        }
        if (!AllFinite(
                Read(reference(), ComputePath::kStep, layer, memory, tokens))) {
          continue;
        }
        ++finite;
        for (const ComputePath path : kBothPaths) {
          EXPECT_TRUE(AllFinite(Read(cpu(), path, layer, memory, tokens)))
              << PathName(path) << ", " << sizes.ToString() << ", weights to "
              << weight_size << ", tokens to " << token_size;
        }
      }
    }
  }
  EXPECT_GT(finite, 100);
}

TEST_P(TttTest, AHiddenUnitMayBeSaturatedOrDead) {
  const Sizes sizes{2, 16, 5, TttInner::kMlp};
  const Layer layer(sizes, random_);
  for (const float bias : {8.0f, 30.0f, 1e10f, 3e38f}) {
    Memory memory = MakeMemory(sizes, 2);
    for (int64_t head = 0; head < 2; ++head) {
      float* b1 = &memory.weights[head * sizes.head_weight_floats() + 16 * 64];
      for (int64_t unit = 0; unit < 64; ++unit) {
        // Beyond the first bias only dead ones, which say nothing.
        b1[unit] = unit % 2 == 0 || bias > 8.0f ? -bias : bias;
      }
    }
    const Tokens tokens = MakeTokens(sizes, 12);
    const Result wanted =
        Read(reference(), ComputePath::kStep, layer, memory, tokens);
    for (const ComputePath path : kBothPaths) {
      ExpectNear(Read(cpu(), path, layer, memory, tokens), wanted,
                 absl::StrCat(PathName(path), ", bias ", bias));
    }
  }
}

TEST_P(TttTest, ATokenWithoutVarianceIsLikeAnyOther) {
  for (const Sizes& sizes : Both({{2, 16, 5}})) {
    const Layer layer(sizes, random_);
    Memory memory = MakeMemory(sizes, 0);
    std::fill(memory.weights.begin(), memory.weights.end(), 0.0f);
    Tokens tokens = MakeTokens(sizes, 12);
    for (const int64_t row : {0, 3, 7}) {
      std::fill_n(tokens.k.view().row(row), sizes.dim(), 0.0f);
      std::fill_n(tokens.q.view().row(row), sizes.dim(), 0.0f);
    }
    const Result wanted = Read(reference(), ComputePath::kStep, layer, memory,
                               tokens.Slice(0, 1));
    for (const ComputePath path : kBothPaths) {
      ExpectNear(Read(cpu(), path, layer, memory, tokens.Slice(0, 1)), wanted,
                 PathName(path));
      EXPECT_TRUE(AllFinite(Read(cpu(), path, layer, memory, tokens)));
    }
  }
}

}  // namespace
}  // namespace mneme
