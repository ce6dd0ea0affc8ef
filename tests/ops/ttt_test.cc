// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/ops/conformance.h"
#include "tests/ops/ttt_fixture.h"

namespace mneme {
namespace {

const std::vector<Sizes>& AllSizes() {
  static const auto* const sizes = [] {
    auto* all = new std::vector<Sizes>;
    for (const int64_t head_dim : {2, 6, 9, 16, 24, 64, 96}) {
      for (const int64_t mini_batch : {1, 2, 5, 16, 100}) {
        for (const int64_t heads : {1, 3}) {
          all->push_back({heads, head_dim, mini_batch});
        }
        // The reference takes its time over wide ones.
        const int64_t heads = head_dim < 64 ? 3 : 1;
        if (head_dim < 64 || mini_batch < 100) {
          all->push_back({heads, head_dim, mini_batch, TttInner::kMlp});
        }
      }
    }
    return all;
  }();
  return *sizes;
}

TEST_P(TttTest, AgreesWithTheReferenceOnEverySize) {
  for (const Sizes& sizes : AllSizes()) {
    const Layer layer(sizes, random_);
    const int64_t mini_batch = sizes.mini_batch;
    // Beginning and in the middle of a mini-batch; staying inside, filling it,
    // and going on for some more.
    const int64_t middle = mini_batch / 2;
    for (const auto& [slot, rows] :
         std::vector<std::pair<int64_t, int64_t>>{{0, 1},
                                                  {0, mini_batch},
                                                  {middle, 1},
                                                  {middle, mini_batch - middle},
                                                  {mini_batch - 1, 1},
                                                  {mini_batch - 1, 2},
                                                  {middle, 64}}) {
      const Memory memory = MakeMemory(sizes, slot);
      const Tokens tokens = MakeTokens(sizes, rows);
      const Result wanted =
          Read(reference(), ComputePath::kStep, layer, memory, tokens);
      for (const ComputePath path : kBothPaths) {
        const std::string what =
            absl::StrCat(PathName(path), ", ", sizes.ToString(), ", ", rows,
                         " rows from slot ", slot);
        const Result found = Read(cpu(), path, layer, memory, tokens);
        ExpectNear(found, wanted, what);
        ExpectIdentical(Read(cpu(2), path, layer, memory, tokens), found,
                        what + ", two threads");
        ExpectIdentical(
            Read(cpu(), path, layer, memory, tokens, Placement::kInPlace),
            found, what + ", in place");
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(TttTest, TheReferenceWritesWeightsInPlaceToo) {
  for (const Sizes& sizes : Both({{2, 6, 5}})) {
    const Layer layer(sizes, random_);
    const Memory memory = MakeMemory(sizes, 3);
    const Tokens tokens = MakeTokens(sizes, 9);
    ExpectIdentical(
        Read(reference(), ComputePath::kStep, layer, memory, tokens,
             Placement::kInPlace),
        Read(reference(), ComputePath::kStep, layer, memory, tokens),
        "in place");
  }
}

TEST_P(TttTest, TheNumberOfThreadsChangesNoBit) {
  for (const Sizes& sizes : Both({{3, 64, 16}})) {
    const Layer layer(sizes, random_);
    const Memory memory = MakeMemory(sizes, 7);
    const Tokens tokens = MakeTokens(sizes, 64);
    for (const ComputePath path : kBothPaths) {
      const Result wanted = Read(cpu(), path, layer, memory, tokens);
      for (int threads = 2; threads <= kMaxThreads; ++threads) {
        for (int round = 0; round < 5; ++round) {
          ExpectIdentical(Read(cpu(threads), path, layer, memory, tokens),
                          wanted, PathName(path));
        }
      }
    }
  }
}

TEST_P(TttTest, ASessionInAStepDoesNotDependOnItsNeighbours) {
  for (const Sizes& sizes : Both({Sizes{3, 16, 5}, Sizes{1, 64, 16},
                                  Sizes{3, 6, 1}, Sizes{2, 24, 100}})) {
    const Layer layer(sizes, random_);
    const std::vector<int64_t> shares = {1, 4, 1, 20, 2, 1};
    std::vector<Memory> memories;
    int64_t rows = 0;
    for (const int64_t share : shares) {
      memories.push_back(MakeMemory(
          sizes, static_cast<int64_t>(random_()) % sizes.mini_batch));
      rows += share;
    }
    const Tokens tokens = MakeTokens(sizes, rows);
    for (int threads = 1; threads <= kMaxThreads; ++threads) {
      const Result together = Read(cpu(threads), ComputePath::kStep, layer,
                                   memories, tokens, shares);
      ExpectNear(together,
                 Read(reference(), ComputePath::kStep, layer, memories, tokens,
                      shares),
                 sizes.ToString());
      int64_t first = 0;
      for (size_t i = 0; i < shares.size(); ++i) {
        const std::string what =
            absl::StrCat(sizes.ToString(), ", session ", i);
        const Result alone = Read(cpu(), ComputePath::kStep, layer, memories[i],
                                  tokens.Slice(first, shares[i]));
        EXPECT_TRUE(Identical(together.out.Slice(first, shares[i]), alone.out))
            << what;
        ExpectIdentical(together.memories[i], alone.memories[0], what);
        first += shares[i];
      }
    }
  }
}

TEST_P(TttTest, AnyCutOfASequenceGivesTheSameBitsOnTheStepPath) {
  for (const Sizes& sizes :
       Both({Sizes{3, 16, 5}, Sizes{1, 6, 16}, Sizes{2, 2, 1}})) {
    const Layer layer(sizes, random_);
    const Memory memory = MakeMemory(sizes, sizes.mini_batch / 2);
    const Tokens tokens = MakeTokens(sizes, 23);
    const Result whole = Read(cpu(), ComputePath::kStep, layer, memory, tokens);
    for (int64_t piece = 1; piece < 23; ++piece) {
      Memory now = memory;
      for (int64_t first = 0; first < 23; first += piece) {
        const int64_t rows = std::min<int64_t>(piece, 23 - first);
        const Result part = Read(cpu(), ComputePath::kStep, layer, now,
                                 tokens.Slice(first, rows));
        EXPECT_TRUE(Identical(part.out, whole.out.Slice(first, rows)))
            << sizes.ToString() << ", rows from " << first << " by " << piece;
        now = part.memories[0];
      }
      ExpectIdentical(now, whole.memories[0],
                      absl::StrCat(sizes.ToString(), ", by ", piece));
    }
  }
}

TEST_P(TttTest, BothFormsAgreeHoweverTheyTakeTurns) {
  for (const Sizes& sizes : Both({Sizes{3, 16, 5}, Sizes{2, 64, 16}})) {
    const Layer layer(sizes, random_);
    const Memory memory = MakeMemory(sizes, 0);
    const Tokens tokens = MakeTokens(sizes, 96);
    const Result primal =
        Read(cpu(), ComputePath::kStep, layer, memory, tokens);
    ExpectNear(Read(cpu(), ComputePath::kBlock, layer, memory, tokens), primal,
               sizes.ToString());
    Memory now = memory;
    int64_t first = 0;
    for (const int64_t rows : {7, 32, 1, 24, 32}) {
      const ComputePath path =
          rows % 2 == 0 ? ComputePath::kBlock : ComputePath::kStep;
      const Result part =
          Read(cpu(), path, layer, now, tokens.Slice(first, rows));
      EXPECT_TRUE(Near(part.out, primal.out.Slice(first, rows), kTolerance));
      now = part.memories[0];
      first += rows;
    }
    EXPECT_TRUE(Near(now.weights, primal.memories[0].weights, kTolerance));
  }
}

TEST_P(TttTest, LaterTokensChangeNoBitOfWhatCameBefore) {
  for (const Sizes& sizes : Both({Sizes{3, 16, 5}, Sizes{1, 6, 16},
                                  Sizes{2, 64, 16}, Sizes{1, 24, 100}})) {
    const Layer layer(sizes, random_);
    const Memory memory = MakeMemory(sizes, sizes.mini_batch / 3);
    const Tokens tokens = MakeTokens(sizes, 40);
    const Tokens others = MakeTokens(sizes, 40);
    for (const ComputePath path : kBothPaths) {
      const Result wanted = Read(cpu(2), path, layer, memory, tokens);
      for (const int64_t kept : {1, 2, 5, 16, 17, 39}) {
        Tokens changed = tokens;
        for (Operand Tokens::*member :
             {&Tokens::q, &Tokens::k, &Tokens::v, &Tokens::rate}) {
          for (int64_t row = kept; row < 40; ++row) {
            std::copy_n((others.*member).view().row(row),
                        (others.*member).cols(),
                        (changed.*member).view().row(row));
          }
        }
        EXPECT_TRUE(Identical(
            Read(cpu(2), path, layer, memory, changed).out.Slice(0, kept),
            wanted.out.Slice(0, kept)))
            << PathName(path) << ", " << sizes.ToString() << ", other tokens "
            << "from " << kept;
        EXPECT_TRUE(Identical(
            Read(cpu(2), path, layer, memory, tokens.Slice(0, kept)).out,
            wanted.out.Slice(0, kept)))
            << PathName(path) << ", " << sizes.ToString() << ", none from "
            << kept;
      }
    }
  }
}

TEST_P(TttTest, ATokenWithScaleZeroStillTeachesThoseBehindIt) {
  for (const Sizes& sizes : Both({{3, 16, 5}})) {
    Layer layer(sizes, random_);
    layer.token_scale()[1] = 0.0f;
    layer.token_scale()[2] = 0.0f;
    for (const int64_t slot : {0, 2, 4}) {
      const Memory memory = MakeMemory(sizes, slot);
      const Tokens tokens = MakeTokens(sizes, 12);
      const Result wanted =
          Read(reference(), ComputePath::kStep, layer, memory, tokens);
      for (const ComputePath path : kBothPaths) {
        ExpectNear(Read(cpu(), path, layer, memory, tokens), wanted,
                   PathName(path));
      }
    }
  }
}

TEST_P(TttTest, AMiniBatchWhoseLastScaleIsZeroTeachesNothing) {
  for (const Sizes& sizes : Both({{3, 16, 5}})) {
    Layer layer(sizes, random_);
    layer.token_scale()[4] = 0.0f;
    const Memory memory = MakeMemory(sizes, 2);
    const Tokens tokens = MakeTokens(sizes, 9);
    for (Backend* backend : {&reference(), &cpu()}) {
      for (const ComputePath path : kBothPaths) {
        const Result result = Read(*backend, path, layer, memory, tokens);
        EXPECT_EQ(result.memories[0].weights, memory.weights)
            << backend->name() << ", " << PathName(path);
      }
    }
  }
}

TEST_P(TttTest, ALearningRateOfZeroReadsTheInitialWeightsForever) {
  for (const Sizes& sizes : Both({{2, 16, 4}})) {
    const Layer layer(sizes, random_);
    const Memory memory = MakeMemory(sizes, 0);
    Tokens tokens = MakeTokens(sizes, 12);
    for (int64_t row = 0; row < 12; ++row) {
      for (int64_t head = 0; head < 2; ++head) tokens.rate.at(row, head) = 0.0f;
      // The same query at the same slot reads the same.
      std::copy_n(tokens.q.view().row(row % 4), sizes.dim(),
                  tokens.q.view().row(row));
    }
    for (Backend* backend : {&reference(), &cpu()}) {
      for (const ComputePath path : kBothPaths) {
        const Result result = Read(*backend, path, layer, memory, tokens);
        EXPECT_EQ(result.memories[0].weights, memory.weights);
        for (const int64_t first : {4, 8}) {
          EXPECT_TRUE(
              Near(result.out.Slice(first, 4), result.out.Slice(0, 4), 1e-6));
        }
      }
    }
  }
}

TEST_P(TttTest, APairReadOftenEnoughIsKnown) {
  // One token a mini-batch, so that nothing is rotated.
  for (const Sizes& sizes : Both({{2, 16, 1}})) {
    Layer layer(sizes, random_);
    layer.token_scale() = {1.0f};
    const TttParams params = layer.params();
    const Tokens pair = MakeTokens(sizes, 1);
    // A value that the inner model can say: k + LN(something).
    Tokens tokens = pair;
    for (int64_t head = 0; head < 2; ++head) {
      for (int64_t j = 0; j < 16; ++j) {
        const int64_t c = head * 16 + j;
        const float n = (j % 4 < 2) ? 1.0f : -1.0f;  // mean 0, variance 1
        tokens.v.at(0, c) =
            pair.k.at(0, c) + params.norm_weight[c] * n + params.norm_bias[c];
        tokens.q.at(0, c) = pair.k.at(0, c);
      }
    }
    for (Backend* backend : {&reference(), &cpu()}) {
      Memory memory = MakeMemory(sizes, 0);
      Operand first, last;
      for (int i = 0; i < 300; ++i) {
        Result result =
            Read(*backend, ComputePath::kStep, layer, memory, tokens);
        memory = result.memories[0];
        if (i == 0) first = result.out;
        last = std::move(result.out);
      }
      EXPECT_FALSE(Near(first, tokens.v, 0.5)) << backend->name();
      EXPECT_TRUE(Near(last, tokens.v, 0.01)) << backend->name();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, TttTest, testing::ValuesIn(CompiledTargets()),
                         TargetTestName);

}  // namespace
}  // namespace mneme
