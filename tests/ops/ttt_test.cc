// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/ops/conformance.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

// f32 against f64 over up to a dozen mini-batches. Mistakes in the formulas
// show as 2e-3 and more.
constexpr double kTolerance = 2e-4;

constexpr float kUnwritten = 77.0f;

struct Sizes {
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t mini_batch = 0;
  TttInner inner = TttInner::kLinear;

  int64_t dim() const { return heads * head_dim; }
  int64_t head_weight_floats() const {
    return inner == TttInner::kMlp ? head_dim * 4 * head_dim + 4 * head_dim +
                                         4 * head_dim * head_dim + head_dim
                                   : head_dim * head_dim + head_dim;
  }
  int64_t weight_floats() const { return heads * head_weight_floats(); }
  // Of one token.
  int64_t factor_floats() const {
    return (inner == TttInner::kMlp ? 10 : 2) * dim();
  }
  std::string ToString() const {
    return absl::StrCat(inner == TttInner::kMlp ? "mlp, " : "linear, ", heads,
                        " heads of ", head_dim, ", mini-batches of ",
                        mini_batch);
  }
};

// Each of `sizes` with either inner model.
std::vector<Sizes> Both(const std::vector<Sizes>& sizes) {
  std::vector<Sizes> both = sizes;
  for (Sizes size : sizes) {
    size.inner = TttInner::kMlp;
    both.push_back(size);
  }
  return both;
}

// The parameters of a layer, with random numbers wherever training would have
// left some.
class Layer {
 public:
  Layer(const Sizes& sizes, Random& random)
      : sizes_(sizes),
        norm_weight_(RandomValues(sizes.dim(), 0.2f, random)),
        norm_bias_(RandomValues(sizes.dim(), 0.1f, random)),
        token_scale_(RandomValues(sizes.mini_batch, 0.05f, random)) {
    for (float& value : norm_weight_) value += 1.0f;
    const int64_t half = sizes.head_dim / 2;
    for (int64_t slot = 0; slot < sizes.mini_batch; ++slot) {
      float& scale = token_scale_[slot];
      scale = std::max(0.0f, scale + 1.0f / static_cast<float>(slot + 1));
      for (int64_t m = 0; m < half; ++m) {
        const double angle = static_cast<double>(slot) *
                             std::pow(10000.0, -2.0 * m / sizes.head_dim);
        cos_.push_back(static_cast<float>(std::cos(angle)));
        sin_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }

  const Sizes& sizes() const { return sizes_; }
  std::vector<float>& token_scale() { return token_scale_; }

  TttParams params() const {
    return {.inner = sizes_.inner,
            .heads = sizes_.heads,
            .head_dim = sizes_.head_dim,
            .mini_batch = sizes_.mini_batch,
            .norm_weight = norm_weight_.data(),
            .norm_bias = norm_bias_.data(),
            .token_scale = token_scale_.data(),
            .rope_cos = cos_.data(),
            .rope_sin = sin_.data()};
  }

 private:
  Sizes sizes_;
  std::vector<float> norm_weight_, norm_bias_, token_scale_, cos_, sin_;
};

// What one session remembers in the layer.
struct Memory {
  int64_t slot = 0;            // tokens of the open mini-batch
  std::vector<float> weights;  // [heads, weight_floats]
  std::vector<float> factors;  // [slot, heads, factor_floats]
};

// The tokens of a call: one row each, whosever they are.
struct Tokens {
  Operand q, k, v, rate;

  int64_t rows() const { return q.rows(); }
  Tokens Slice(int64_t first, int64_t count) const {
    return {q.Slice(first, count), k.Slice(first, count), v.Slice(first, count),
            rate.Slice(first, count)};
  }
  TttInputs inputs() const {
    return {.q = q.view(),
            .k = k.view(),
            .v = v.view(),
            .learning_rate = rate.view()};
  }
};

struct Result {
  Operand out;
  std::vector<Memory> memories;  // after the call, by session
};

enum class Placement { kElsewhere, kInPlace };  // of next_weights

class TttTest : public ConformanceTest {
 protected:
  Tokens MakeTokens(const Sizes& sizes, int64_t rows) {
    Tokens tokens{.q = Operand::Uniform(rows, sizes.dim(), 1.5f, random_),
                  .k = Operand::Uniform(rows, sizes.dim(), 1.5f, random_),
                  .v = Operand::Uniform(rows, sizes.dim(), 1.5f, random_),
                  .rate = Operand::Uniform(rows, sizes.heads, 1.0f, random_)};
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t head = 0; head < sizes.heads; ++head) {
        float& rate = tokens.rate.at(row, head);
        rate = (0.6f + 0.5f * rate) / static_cast<float>(sizes.head_dim);
        if (sizes.inner == TttInner::kMlp) rate *= 0.1f;  // as it is trained
      }
    }
    return tokens;
  }

  // A session that has read `slot` tokens of its mini-batch.
  Memory MakeMemory(const Sizes& sizes, int64_t slot) {
    Memory memory{.slot = slot,
                  .weights = RandomValues(sizes.weight_floats(), 0.3f, random_),
                  .factors = {}};
    // LayerNorm over two numbers is little more than their order, and where
    // they are equal a rounding decides it: biases keep them apart.
    for (int64_t head = 0; sizes.head_dim == 2 && head < sizes.heads; ++head) {
      const int64_t end = (head + 1) * sizes.head_weight_floats();
      memory.weights[end - 2] += 2.0f;
      memory.weights[end - 1] -= 2.0f;
    }
    const bool mlp = sizes.inner == TttInner::kMlp;
    const int64_t hidden = 4 * sizes.head_dim;
    const float gradient =
        (mlp ? 0.02f : 0.2f) / static_cast<float>(sizes.head_dim);
    auto add = [&](int64_t count, float size) {
      const std::vector<float> values = RandomValues(count, size, random_);
      memory.factors.insert(memory.factors.end(), values.begin(), values.end());
    };
    for (int64_t i = 0; i < slot * sizes.heads; ++i) {
      add(sizes.head_dim, 1.5f);
      if (mlp) {
        add(hidden, gradient);
        add(hidden, 1.0f);
      }
      add(sizes.head_dim, gradient);
    }
    return memory;
  }

  // Has each session read its share of the tokens, in order, and checks that
  // nothing was written that the contract does not say.
  static Result Read(Backend& backend, ComputePath path, const Layer& layer,
                     const std::vector<Memory>& before, const Tokens& tokens,
                     const std::vector<int64_t>& shares,
                     Placement placement = Placement::kElsewhere) {
    const Sizes& sizes = layer.sizes();
    const int64_t mini_batch = sizes.mini_batch;
    const size_t sessions = before.size();
    // Room for a mini-batch's factors, at least one float to point at.
    const int64_t factor_room =
        std::max<int64_t>(1, (mini_batch - 1) * sizes.factor_floats());
    std::vector<std::vector<float>> weights(sessions), next_weights(sessions);
    std::vector<std::vector<float>> factors(sessions), next_factors(sessions);
    std::vector<TttSlice> slices;
    int64_t first_row = 0;
    for (size_t i = 0; i < sessions; ++i) {
      weights[i] = before[i].weights;
      next_weights[i].assign(sizes.weight_floats(), kUnwritten);
      factors[i] = before[i].factors;
      factors[i].resize(factor_room, kUnwritten);
      next_factors[i].assign(factor_room, kUnwritten);
      slices.push_back({.first_row = first_row,
                        .rows = shares[i],
                        .slot = before[i].slot,
                        .weights = weights[i].data(),
                        .next_weights = placement == Placement::kInPlace
                                            ? weights[i].data()
                                            : next_weights[i].data(),
                        .factors = factors[i].data(),
                        .next_factors = next_factors[i].data()});
      first_row += shares[i];
    }
    EXPECT_THAT(
        backend.ReserveTtt(layer.params(),
                           *std::max_element(shares.begin(), shares.end())),
        IsOk());
    Result result{.out = Operand(tokens.rows(), sizes.dim()), .memories = {}};
    backend.Ttt(path, layer.params(), tokens.inputs(), slices,
                result.out.view());
    EXPECT_THAT(backend.Finish(), IsOk());

    for (size_t i = 0; i < sessions; ++i) {
      const bool closes = before[i].slot + shares[i] >= mini_batch;
      Memory after{.slot = (before[i].slot + shares[i]) % mini_batch};
      const bool in_place = placement == Placement::kInPlace;
      after.weights = closes && !in_place ? next_weights[i] : weights[i];
      after.factors = closes ? next_factors[i] : factors[i];
      const int64_t open = after.slot * sizes.factor_floats();
      EXPECT_TRUE(std::equal(before[i].factors.begin(), before[i].factors.end(),
                             factors[i].begin()))
          << "factors of earlier calls were overwritten";
      if (!closes || !in_place) {
        EXPECT_EQ(weights[i], before[i].weights);
      }
      if (!closes) {
        ExpectUnwritten(next_weights[i], 0);
        ExpectUnwritten(next_factors[i], 0);
        ExpectUnwritten(factors[i], open);
      }
      after.factors.resize(open);
      result.memories.push_back(std::move(after));
    }
    return result;
  }

  static Result Read(Backend& backend, ComputePath path, const Layer& layer,
                     const Memory& before, const Tokens& tokens,
                     Placement placement = Placement::kElsewhere) {
    return Read(backend, path, layer, std::vector<Memory>{before}, tokens,
                {tokens.rows()}, placement);
  }

  static void ExpectUnwritten(const std::vector<float>& values, int64_t from) {
    EXPECT_TRUE(std::all_of(values.begin() + from, values.end(),
                            [](float value) { return value == kUnwritten; }));
  }

  static void ExpectNear(const Result& found, const Result& wanted,
                         const std::string& what) {
    EXPECT_TRUE(Near(found.out, wanted.out, kTolerance)) << what;
    for (size_t i = 0; i < wanted.memories.size(); ++i) {
      EXPECT_TRUE(Near(found.memories[i].weights, wanted.memories[i].weights,
                       kTolerance))
          << "weights, " << what;
      EXPECT_TRUE(Near(found.memories[i].factors, wanted.memories[i].factors,
                       kTolerance))
          << "factors, " << what;
    }
  }

  static void ExpectIdentical(const Memory& found, const Memory& wanted,
                              const std::string& what) {
    EXPECT_EQ(found.slot, wanted.slot) << what;
    EXPECT_TRUE(Identical(found.weights, wanted.weights)) << what;
    EXPECT_TRUE(Identical(found.factors, wanted.factors)) << what;
  }

  static void ExpectIdentical(const Result& found, const Result& wanted,
                              const std::string& what) {
    EXPECT_TRUE(Identical(found.out, wanted.out)) << what;
    for (size_t i = 0; i < wanted.memories.size(); ++i) {
      ExpectIdentical(found.memories[i], wanted.memories[i], what);
    }
  }

  Random random_{4};
};

const std::vector<Sizes>& AllSizes() {
  static const auto* const sizes = [] {
    auto* all = new std::vector<Sizes>;
    for (const int64_t head_dim : {2, 6, 16, 24, 64, 96}) {
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

INSTANTIATE_TEST_SUITE_P(Targets, TttTest, testing::ValuesIn(CompiledTargets()),
                         TargetTestName);

}  // namespace
}  // namespace mneme
