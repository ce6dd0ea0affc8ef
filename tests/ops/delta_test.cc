// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "tests/ops/conformance.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

constexpr double kNear = 2e-5;
constexpr float kUnwritten = 77.0f;

// Heads with and without a rest of a vector, of one number, of many.
std::vector<DeltaParams> AllSizes() {
  return {{.heads = 1, .head_dim = 1},  {.heads = 3, .head_dim = 5},
          {.heads = 2, .head_dim = 16}, {.heads = 5, .head_dim = 24},
          {.heads = 1, .head_dim = 67}, {.heads = 2, .head_dim = 128}};
}

std::string ToString(const DeltaParams& params) {
  return absl::StrCat(params.heads, " heads of ", params.head_dim);
}

struct DeltaTokens {
  Operand q, k, v, rate;
  DeltaTokens Slice(int64_t first, int64_t count) const {
    return {q.Slice(first, count), k.Slice(first, count), v.Slice(first, count),
            rate.Slice(first, count)};
  }
};

// How many of the gates are open.
enum class Gates { kClosed, kMixed, kOpen };

class DeltaTest : public ConformanceTest {
 protected:
  DeltaTokens MakeTokens(const DeltaParams& params, int64_t rows,
                         Gates gates = Gates::kMixed) {
    const int64_t dim = params.heads * params.head_dim;
    // Keys of a length near 1, as normalisation leaves them.
    const float key = 1.7f / std::sqrt(static_cast<float>(params.head_dim));
    DeltaTokens tokens = {Operand::Uniform(rows, dim, key, random_),
                          Operand::Uniform(rows, dim, key, random_),
                          Operand::Uniform(rows, dim, 1.5f, random_),
                          Operand::Uniform(rows, params.heads, 0.5f, random_)};
    for (int64_t row = 0; row < rows; ++row) {
      const bool closed = gates == Gates::kClosed ||
                          (gates == Gates::kMixed && random_() % 3 != 0);
      for (int64_t head = 0; head < params.heads; ++head) {
        float& rate = tokens.rate.at(row, head);
        rate += 0.5f;
        if (closed || (gates == Gates::kMixed && rate < 0.3f)) rate = 0.0f;
      }
    }
    return tokens;
  }

  std::vector<float> MakeWeights(const DeltaParams& params) {
    return RandomValues(params.heads * params.weight_floats(), 0.5f, random_);
  }

  struct Session {
    std::vector<float> weights;
    int writes = 0;  // calls that wrote
  };

  // Sessions read their shares of the rows, in one call. With `in_place` the
  // new weights go where the old ones are.
  static Operand Read(Backend& backend, const DeltaParams& params,
                      const DeltaTokens& tokens,
                      const std::vector<int64_t>& shares,
                      std::vector<Session>* sessions, bool in_place = false) {
    std::vector<DeltaSlice> slices;
    std::vector<std::vector<float>> next(
        shares.size(),
        std::vector<float>(params.heads * params.weight_floats(), kUnwritten));
    int64_t first_row = 0;
    for (size_t i = 0; i < shares.size(); ++i) {
      float* const weights = (*sessions)[i].weights.data();
      slices.push_back({.first_row = first_row,
                        .rows = shares[i],
                        .weights = weights,
                        .next_weights = in_place ? weights : next[i].data()});
      first_row += shares[i];
    }
    EXPECT_THAT(backend.Reserve(params, first_row), IsOk());
    Operand out(tokens.q.rows(), params.heads * params.head_dim);
    backend.Delta(params,
                  {.q = tokens.q.view(),
                   .k = tokens.k.view(),
                   .v = tokens.v.view(),
                   .learning_rate = tokens.rate.view()},
                  absl::MakeSpan(slices), out.view());
    EXPECT_THAT(backend.Finish(), IsOk());
    for (size_t i = 0; i < shares.size(); ++i) {
      if (!slices[i].wrote) {
        EXPECT_TRUE(std::all_of(next[i].begin(), next[i].end(),
                                [](float x) { return x == kUnwritten; }));
        continue;
      }
      ++(*sessions)[i].writes;
      if (!in_place) (*sessions)[i].weights = next[i];
    }
    return out;
  }
  static Operand Read(Backend& backend, const DeltaParams& params,
                      const DeltaTokens& tokens, Session* session,
                      bool in_place = false) {
    std::vector<Session> sessions = {*session};
    Operand out =
        Read(backend, params, tokens, {tokens.q.rows()}, &sessions, in_place);
    *session = sessions[0];
    return out;
  }

  Random random_{8};
};

TEST_P(DeltaTest, AgreesWithTheReferenceOnEverySize) {
  for (const DeltaParams& params : AllSizes()) {
    for (const Gates gates : {Gates::kClosed, Gates::kMixed, Gates::kOpen}) {
      Session wanted = {MakeWeights(params)};
      Session found = wanted;
      for (const int64_t rows : {1, 64, 3, 40, 1}) {
        const DeltaTokens tokens = MakeTokens(params, rows, gates);
        const Operand wanted_out = Read(reference(), params, tokens, &wanted);
        const Operand out = Read(cpu(2), params, tokens, &found);
        EXPECT_TRUE(Near(out, wanted_out, kNear)) << ToString(params);
        EXPECT_TRUE(Near(found.weights, wanted.weights, kNear))
            << ToString(params);
        EXPECT_EQ(found.writes, wanted.writes);
      }
      EXPECT_EQ(found.writes > 0, gates != Gates::kClosed);
    }
  }
}

TEST_P(DeltaTest, WeightsMayBeRewrittenInPlace) {
  const DeltaParams params = {.heads = 2, .head_dim = 24};
  for (Backend* backend : {&reference(), &cpu()}) {
    Session apart = {MakeWeights(params)};
    Session in_place = apart;
    const DeltaTokens tokens = MakeTokens(params, 30);
    EXPECT_TRUE(Identical(Read(*backend, params, tokens, &in_place, true),
                          Read(*backend, params, tokens, &apart)));
    EXPECT_TRUE(Identical(in_place.weights, apart.weights));
  }
}

TEST_P(DeltaTest, ClosedGatesChangeNoBitHoweverTheTokensCome) {
  for (const DeltaParams& params : AllSizes()) {
    const std::vector<float> before = MakeWeights(params);
    const DeltaTokens tokens = MakeTokens(params, 60, Gates::kClosed);
    for (Backend* backend : {&reference(), &cpu(1), &cpu(3)}) {
      for (const int64_t cut : {1, 7, 60}) {
        Session session = {before};
        for (int64_t row = 0; row < 60; row += cut) {
          const int64_t count = std::min<int64_t>(cut, 60 - row);
          Read(*backend, params, tokens.Slice(row, count), &session);
        }
        EXPECT_TRUE(Identical(session.weights, before)) << ToString(params);
        EXPECT_EQ(session.writes, 0);
      }
    }
  }
}

TEST_P(DeltaTest, AClosedHeadKeepsItsBitsBesideAnOpenOne) {
  const DeltaParams params = {.heads = 3, .head_dim = 24};
  for (Backend* backend : {&reference(), &cpu()}) {
    Session session = {MakeWeights(params)};
    const std::vector<float> before = session.weights;
    DeltaTokens tokens = MakeTokens(params, 20, Gates::kOpen);
    for (int64_t row = 0; row < 20; ++row) tokens.rate.at(row, 1) = 0.0f;
    Read(*backend, params, tokens, &session);
    const auto head = [&](const std::vector<float>& weights, int64_t i) {
      const auto first = weights.begin() + i * params.weight_floats();
      return std::vector<float>(first, first + params.weight_floats());
    };
    EXPECT_TRUE(Identical(head(session.weights, 1), head(before, 1)));
    EXPECT_FALSE(Near(head(session.weights, 0), head(before, 0), 1e-3));
    EXPECT_FALSE(Near(head(session.weights, 2), head(before, 2), 1e-3));
  }
}

TEST_P(DeltaTest, TheNumberOfThreadsChangesNoBit) {
  const DeltaParams params = {.heads = 5, .head_dim = 40};
  Session one = {MakeWeights(params)};
  Session three = one;
  for (int round = 0; round < 3; ++round) {
    const DeltaTokens tokens = MakeTokens(params, 64);
    EXPECT_TRUE(Identical(Read(cpu(3), params, tokens, &three),
                          Read(cpu(1), params, tokens, &one)));
    EXPECT_TRUE(Identical(three.weights, one.weights));
  }
}

TEST_P(DeltaTest, AnyCutGivesTheSameBits) {
  for (const DeltaParams& params : AllSizes()) {
    Session whole = {MakeWeights(params)};
    Session pieces = whole;
    for (const int64_t cut : {1, 8, 15, 22}) {
      const DeltaTokens tokens = MakeTokens(params, 60);
      const Operand wanted = Read(cpu(), params, tokens, &whole);
      for (int64_t row = 0; row < 60; row += cut) {
        const int64_t count = std::min<int64_t>(cut, 60 - row);
        EXPECT_TRUE(
            Identical(Read(cpu(2), params, tokens.Slice(row, count), &pieces),
                      wanted.Slice(row, count)))
            << ToString(params);
      }
      EXPECT_TRUE(Identical(pieces.weights, whole.weights)) << ToString(params);
    }
  }
}

TEST_P(DeltaTest, ASessionDoesNotDependOnItsNeighbours) {
  const DeltaParams params = {.heads = 2, .head_dim = 20};
  const std::vector<int64_t> shares = {1, 4, 1, 9};
  std::vector<Session> together;
  for (size_t i = 0; i < shares.size(); ++i) {
    together.push_back({MakeWeights(params)});
  }
  std::vector<Session> alone = together;
  for (int round = 0; round < 10; ++round) {
    const DeltaTokens tokens = MakeTokens(params, 15);
    const Operand out = Read(cpu(2), params, tokens, shares, &together);
    int64_t row = 0;
    for (size_t i = 0; i < shares.size(); ++i) {
      EXPECT_TRUE(Identical(
          out.Slice(row, shares[i]),
          Read(cpu(), params, tokens.Slice(row, shares[i]), &alone[i])));
      EXPECT_TRUE(Identical(together[i].weights, alone[i].weights));
      row += shares[i];
    }
  }
}

TEST_P(DeltaTest, LaterTokensChangeNoBitOfWhatCameBefore) {
  const DeltaParams params = {.heads = 2, .head_dim = 24};
  const std::vector<float> before = MakeWeights(params);
  DeltaTokens tokens = MakeTokens(params, 20, Gates::kOpen);
  Session session = {before};
  const Operand wanted = Read(cpu(), params, tokens, &session);
  for (int64_t i = 0; i < tokens.v.cols(); ++i) {
    tokens.q.at(19, i) = std::numeric_limits<float>::quiet_NaN();
    tokens.k.at(19, i) = 1e30f;
    tokens.v.at(19, i) = std::numeric_limits<float>::infinity();
  }
  session = {before};
  const Operand found = Read(cpu(), params, tokens, &session);
  EXPECT_TRUE(Identical(found.Slice(0, 19), wanted.Slice(0, 19)));
}

TEST_P(DeltaTest, ARateThatIsNoNumberShows) {
  const DeltaParams params = {.heads = 1, .head_dim = 8};
  for (Backend* backend : {&reference(), &cpu()}) {
    Session session = {MakeWeights(params)};
    DeltaTokens tokens = MakeTokens(params, 1, Gates::kClosed);
    tokens.rate.at(0, 0) = std::numeric_limits<float>::quiet_NaN();
    Read(*backend, params, tokens, &session);
    EXPECT_EQ(session.writes, 1);
    EXPECT_TRUE(std::isnan(session.weights[0]));
  }
}

// Facts about the rule that hold without the reference, for both backends.

TEST_P(DeltaTest, APairWrittenAtFullRateReadsBackAndTheLastOneWins) {
  const DeltaParams params = {.heads = 1, .head_dim = 4};
  for (Backend* backend : {&reference(), &cpu()}) {
    Session session = {std::vector<float>(16, 0.0f)};
    DeltaTokens tokens = MakeTokens(params, 3, Gates::kOpen);
    // Orthogonal keys of length 1: a, b, and a again with another value.
    for (int64_t row = 0; row < 3; ++row) {
      for (int64_t i = 0; i < 4; ++i) {
        tokens.k.at(row, i) = i / 2 == row % 2 ? std::sqrt(0.5f) : 0.0f;
        tokens.q.at(row, i) = tokens.k.at(row, i);
      }
      tokens.rate.at(row, 0) = 1.0f;
    }
    // A token is told what it has just taught.
    EXPECT_TRUE(Near(Read(*backend, params, tokens, &session), tokens.v, 1e-6));
    DeltaTokens questions = tokens.Slice(1, 2);
    questions.rate.at(0, 0) = questions.rate.at(1, 0) = 0.0f;
    EXPECT_TRUE(Near(Read(*backend, params, questions, &session),
                     tokens.v.Slice(1, 2), 1e-6));
  }
}

TEST_P(DeltaTest, AMemoryOfZerosReadsAsZero) {
  const DeltaParams params = {.heads = 2, .head_dim = 24};
  Session session = {
      std::vector<float>(params.heads * params.weight_floats(), 0.0f)};
  const DeltaTokens tokens = MakeTokens(params, 5, Gates::kClosed);
  const Operand out = Read(cpu(), params, tokens, &session);
  for (int64_t row = 0; row < 5; ++row) {
    for (int64_t i = 0; i < out.cols(); ++i) EXPECT_EQ(out.at(row, i), 0.0f);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, DeltaTest,
                         testing::ValuesIn(CompiledTargets()), TargetTestName);

}  // namespace
}  // namespace mneme
