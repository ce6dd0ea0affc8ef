// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/ops/conformance.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

constexpr double kNear = 2e-5;
constexpr int64_t kMaxRows = 64;

struct AttentionSizes {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t window = 0;
  int64_t sinks = 0;
  bool slopes = false;
  int64_t distances = 0;  // that have keys of their own
  int64_t before = 0;     // tokens seen that come before the first

  AttentionParams params() const {
    static const std::vector<float> kSlopes = {0.5f,  0.25f,  0.0f,
                                               0.03f, 0.125f, 1.0f};
    static const std::vector<float> kKeys = [] {
      Random random(9);
      return RandomValues(1 << 16, 1.0f, random);
    }();
    return {.heads = heads,
            .kv_heads = kv_heads,
            .head_dim = head_dim,
            .kept = window - 1,
            .sinks = sinks,
            .scale = 0.7f,
            .slopes = slopes ? kSlopes.data() : nullptr,
            .distance_keys = distances > 0 ? kKeys.data() : nullptr,
            .distances = distances};
  }
  std::string ToString() const {
    return absl::StrCat(heads, "/", kv_heads, " heads of ", head_dim,
                        ", window ", window, ", sinks ", sinks,
                        slopes ? ", slopes" : "", ", distances ", distances);
  }
};

// Every kind of sharing; widths with and without a rest of a vector; windows
// of one token, shorter and longer than a block; with and without sinks; scores
// by slopes and by distances, all or some of them told apart, also to a memory
// from before the first token.
std::vector<AttentionSizes> AllSizes() {
  return {{1, 1, 2, 1, 0},
          {4, 4, 16, 8, 0},
          {6, 2, 20, 5, 3},
          {4, 1, 8, 40, 4},
          {2, 1, 64, 100, 0},
          {2, 2, 5, 70, 9},
          {1, 1, 4, 1, 2},
          {6, 3, 20, 30, 0, true},
          {2, 1, 8, 10, 3, true},
          {3, 3, 10, 40, 0, false, 40},
          {2, 2, 16, 70, 0, false, 5, 60},
          {4, 4, 8, 1, 0, false, 1},
          {2, 2, 20, 100, 0, true, 100, 99}};
}

// What one session remembers in the layer.
struct Kept {
  int64_t position = 0;
  std::vector<float> ring;
  std::vector<float> sinks;
};

struct AttentionTokens {
  Operand q, k, v, far_q, distance_q;
  AttentionTokens Slice(int64_t first, int64_t count) const {
    return {q.Slice(first, count), k.Slice(first, count), v.Slice(first, count),
            far_q.Slice(first, count), distance_q.Slice(first, count)};
  }
};

class AttentionTest : public ConformanceTest {
 protected:
  AttentionTokens MakeTokens(const AttentionSizes& sizes, int64_t rows) {
    const int64_t dim = sizes.heads * sizes.head_dim;
    const int64_t kv_dim = sizes.kv_heads * sizes.head_dim;
    return {Operand::Uniform(rows, dim, 1.5f, random_),
            Operand::Uniform(rows, kv_dim, 1.5f, random_),
            Operand::Uniform(rows, kv_dim, 1.5f, random_),
            Operand::Uniform(rows, dim, 1.5f, random_),
            Operand::Uniform(rows, dim, 1.5f, random_)};
  }

  // NaN wherever nothing was written.
  static Kept Empty(const AttentionSizes& sizes) {
    const AttentionParams params = sizes.params();
    constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();
    Kept kept = {.position = 0,
                 .ring = std::vector<float>(
                     (params.kept + kMaxRows) * params.token_floats(), kPoison),
                 .sinks = std::vector<float>(
                     std::max<int64_t>(1, params.sinks) * params.token_floats(),
                     kPoison)};
    // The last rows are those of the tokens before the first.
    Random random(11);
    const std::vector<float> before =
        RandomValues(sizes.before * params.token_floats(), 1.0f, random);
    std::copy(before.begin(), before.end(),
              kept.ring.end() - static_cast<int64_t>(before.size()));
    return kept;
  }

  static Operand Read(Backend& backend, ComputePath path,
                      const AttentionSizes& sizes,
                      const AttentionTokens& tokens,
                      const std::vector<int64_t>& shares,
                      std::vector<Kept>* kept) {
    const AttentionParams params = sizes.params();
    std::vector<AttentionSlice> slices;
    std::vector<int64_t> begins;
    for (size_t i = 0; i < shares.size(); ++i) {
      for (int64_t row = 0; row < shares[i]; ++row) {
        begins.push_back(std::max<int64_t>(
            -sizes.before, (*kept)[i].position + row - params.kept));
      }
    }
    int64_t first_row = 0;
    for (size_t i = 0; i < shares.size(); ++i) {
      Kept& session = (*kept)[i];
      slices.push_back({.first_row = first_row,
                        .rows = shares[i],
                        .position = session.position,
                        .begins = begins.data() + first_row,
                        .ring = session.ring.data(),
                        .ring_rows = params.kept + kMaxRows,
                        .sinks = session.sinks.data()});
      session.position += shares[i];
      first_row += shares[i];
    }
    EXPECT_THAT(backend.Reserve(params, first_row), IsOk());
    Operand out(tokens.q.rows(), sizes.heads * sizes.head_dim);
    backend.Attention(path, params,
                      {.q = tokens.q.view(),
                       .k = tokens.k.view(),
                       .v = tokens.v.view(),
                       .far_q = tokens.far_q.view(),
                       .distance_q = tokens.distance_q.view()},
                      slices, out.view());
    EXPECT_THAT(backend.Finish(), IsOk());
    return out;
  }
  static Operand Read(Backend& backend, ComputePath path,
                      const AttentionSizes& sizes,
                      const AttentionTokens& tokens, Kept* kept) {
    std::vector<Kept> sessions = {*kept};
    Operand out =
        Read(backend, path, sizes, tokens, {tokens.q.rows()}, &sessions);
    *kept = sessions[0];
    return out;
  }

  Random random_{6};
};

TEST_P(AttentionTest, AgreesWithTheReferenceOnEverySize) {
  for (const AttentionSizes& sizes : AllSizes()) {
    for (const ComputePath path : kBothPaths) {
      Kept wanted = Empty(sizes);
      Kept found = wanted;
      // Far enough that the ring goes round.
      for (const int64_t rows : {1, 64, 3, 64, 64, 40, 1, 64}) {
        const AttentionTokens tokens = MakeTokens(sizes, rows);
        const Operand wanted_out =
            Read(reference(), ComputePath::kStep, sizes, tokens, &wanted);
        const Operand out = Read(cpu(2), path, sizes, tokens, &found);
        EXPECT_TRUE(Near(out, wanted_out, kNear))
            << sizes.ToString() << ", " << PathName(path) << ", " << rows
            << " rows up to " << found.position;
        EXPECT_TRUE(Identical(found.ring, wanted.ring)) << sizes.ToString();
        EXPECT_TRUE(Identical(found.sinks, wanted.sinks)) << sizes.ToString();
      }
    }
  }
}

TEST_P(AttentionTest, TheNumberOfThreadsChangesNoBit) {
  const AttentionSizes sizes = {6, 3, 20, 50, 4};
  for (const ComputePath path : kBothPaths) {
    Kept one = Empty(sizes);
    Kept three = one;
    for (int round = 0; round < 3; ++round) {
      const AttentionTokens tokens = MakeTokens(sizes, 64);
      EXPECT_TRUE(Identical(Read(cpu(3), path, sizes, tokens, &three),
                            Read(cpu(1), path, sizes, tokens, &one)))
          << PathName(path);
    }
  }
}

TEST_P(AttentionTest, AnyCutOnTheStepPathGivesTheSameBits) {
  for (const AttentionSizes& sizes : AllSizes()) {
    Kept whole = Empty(sizes);
    Kept pieces = whole;
    for (int round = 0; round < 4; ++round) {
      const AttentionTokens tokens = MakeTokens(sizes, 60);
      const Operand wanted =
          Read(cpu(), ComputePath::kStep, sizes, tokens, &whole);
      const int64_t cut = 1 + 7 * round;
      for (int64_t row = 0; row < 60; row += cut) {
        const int64_t count = std::min<int64_t>(cut, 60 - row);
        EXPECT_TRUE(Identical(Read(cpu(), ComputePath::kStep, sizes,
                                   tokens.Slice(row, count), &pieces),
                              wanted.Slice(row, count)))
            << sizes.ToString();
      }
      EXPECT_TRUE(Identical(pieces.ring, whole.ring)) << sizes.ToString();
    }
  }
}

TEST_P(AttentionTest, ASessionInAStepDoesNotDependOnItsNeighbours) {
  const AttentionSizes sizes = {4, 2, 16, 9, 2};
  std::vector<Kept> together(4, Empty(sizes));
  std::vector<Kept> alone = together;
  const std::vector<int64_t> shares = {1, 4, 1, 9};
  for (int round = 0; round < 10; ++round) {
    const AttentionTokens tokens = MakeTokens(sizes, 15);
    const Operand out =
        Read(cpu(2), ComputePath::kStep, sizes, tokens, shares, &together);
    int64_t row = 0;
    for (size_t i = 0; i < shares.size(); ++i) {
      EXPECT_TRUE(Identical(out.Slice(row, shares[i]),
                            Read(cpu(), ComputePath::kStep, sizes,
                                 tokens.Slice(row, shares[i]), &alone[i])));
      row += shares[i];
    }
  }
}

TEST_P(AttentionTest, LaterTokensChangeNoBitOfWhatCameBefore) {
  const AttentionSizes sizes = {4, 2, 16, 40, 3};
  for (const ComputePath path : kBothPaths) {
    Kept before = Empty(sizes);
    Read(cpu(), path, sizes, MakeTokens(sizes, 50), &before);
    AttentionTokens tokens = MakeTokens(sizes, 20);
    Kept kept = before;
    const Operand wanted = Read(cpu(), path, sizes, tokens, &kept);
    for (int64_t i = 0; i < tokens.v.cols(); ++i) {
      tokens.k.at(19, i) = 1e30f;
      tokens.v.at(19, i) = std::numeric_limits<float>::infinity();
    }
    kept = before;
    const Operand found = Read(cpu(), path, sizes, tokens, &kept);
    EXPECT_TRUE(Identical(found.Slice(0, 19), wanted.Slice(0, 19)))
        << PathName(path);
  }
}

TEST_P(AttentionTest, RotationAgreesWithTheReference) {
  for (const RotationPairs pairs :
       {RotationPairs::kHalves, RotationPairs::kNeighbours}) {
    for (const int64_t head_dim : {2, 10, 64}) {
      const Operand x = Operand::Uniform(7, 3 * head_dim, 2.0f, random_);
      const Operand cosines = Operand::Uniform(7, head_dim / 2, 1, random_);
      const Operand sines = Operand::Uniform(7, head_dim / 2, 1, random_);
      Operand wanted = x;
      Operand found = x;
      reference().Rotate(pairs, cosines.view(), sines.view(), head_dim,
                         wanted.view());
      cpu(2).Rotate(pairs, cosines.view(), sines.view(), head_dim,
                    found.view());
      EXPECT_TRUE(Near(found, wanted, 1e-6)) << head_dim;
      EXPECT_FALSE(Near(found, x, 1e-3)) << head_dim;
    }
  }
}

TEST_P(AttentionTest, ABiasIsAddedToEveryRow) {
  const Operand x = Operand::Uniform(9, 37, 2.0f, random_);
  const std::vector<float> bias = RandomValues(37, 1.0f, random_);
  Operand wanted = x;
  Operand found = x;
  reference().AddBias(bias, wanted.view());
  cpu(2).AddBias(bias, found.view());
  EXPECT_TRUE(Identical(found, wanted));
  EXPECT_FALSE(Near(found, x, 1e-3));
}

INSTANTIATE_TEST_SUITE_P(Targets, AttentionTest,
                         testing::ValuesIn(CompiledTargets()), TargetTestName);

}  // namespace
}  // namespace mneme
