// SPDX-License-Identifier: Apache-2.0
#include "tests/ops/ttt_fixture.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

constexpr float kUnwritten = 77.0f;

void ExpectUnwritten(const std::vector<float>& values, int64_t from) {
  EXPECT_TRUE(std::all_of(values.begin() + from, values.end(),
                          [](float value) { return value == kUnwritten; }));
}

}  // namespace

std::string Sizes::ToString() const {
  return absl::StrCat(inner == TttInner::kMlp ? "mlp, " : "linear, ", heads,
                      " heads of ", head_dim, ", mini-batches of ", mini_batch);
}

std::vector<Sizes> Both(const std::vector<Sizes>& sizes) {
  std::vector<Sizes> both = sizes;
  for (Sizes size : sizes) {
    size.inner = TttInner::kMlp;
    both.push_back(size);
  }
  return both;
}

Layer::Layer(const Sizes& sizes, Random& random)
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

Tokens TttTest::MakeTokens(const Sizes& sizes, int64_t rows) {
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

Memory TttTest::MakeMemory(const Sizes& sizes, int64_t slot) {
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

Result TttTest::Read(Backend& backend, ComputePath path, const Layer& layer,
                     const std::vector<Memory>& before, const Tokens& tokens,
                     const std::vector<int64_t>& shares, Placement placement) {
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
  EXPECT_THAT(backend.Reserve(layer.params(),
                              *std::max_element(shares.begin(), shares.end())),
              IsOk());
  Result result{.out = Operand(tokens.rows(), sizes.dim()), .memories = {}};
  backend.Ttt(path, layer.params(), tokens.inputs(), slices, result.out.view());
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

Result TttTest::Read(Backend& backend, ComputePath path, const Layer& layer,
                     const Memory& before, const Tokens& tokens,
                     Placement placement) {
  return Read(backend, path, layer, std::vector<Memory>{before}, tokens,
              {tokens.rows()}, placement);
}

void TttTest::ExpectNear(const Result& found, const Result& wanted,
                         const std::string& what) {
  EXPECT_TRUE(Near(found.out, wanted.out, kTolerance)) << what;
  for (size_t i = 0; i < wanted.memories.size(); ++i) {
    EXPECT_TRUE(
        Near(found.memories[i].weights, wanted.memories[i].weights, kTolerance))
        << "weights, " << what;
    EXPECT_TRUE(
        Near(found.memories[i].factors, wanted.memories[i].factors, kTolerance))
        << "factors, " << what;
  }
}

void TttTest::ExpectIdentical(const Memory& found, const Memory& wanted,
                              const std::string& what) {
  EXPECT_EQ(found.slot, wanted.slot) << what;
  EXPECT_TRUE(Identical(found.weights, wanted.weights)) << what;
  EXPECT_TRUE(Identical(found.factors, wanted.factors)) << what;
}

void TttTest::ExpectIdentical(const Result& found, const Result& wanted,
                              const std::string& what) {
  EXPECT_TRUE(Identical(found.out, wanted.out)) << what;
  for (size_t i = 0; i < wanted.memories.size(); ++i) {
    ExpectIdentical(found.memories[i], wanted.memories[i], what);
  }
}

}  // namespace mneme
