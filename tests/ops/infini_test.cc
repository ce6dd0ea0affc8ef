// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/ops/conformance.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

// f32 against f64 over several segments.
constexpr double kNear = 2e-5;

struct InfiniSizes {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t segment = 0;
  bool delta = false;

  int64_t dim() const { return heads * head_dim; }
  int64_t kv_dim() const { return kv_heads * head_dim; }
  std::string ToString() const {
    return absl::StrCat(delta ? "delta, " : "linear, ", heads, "/", kv_heads,
                        " heads of ", head_dim, ", segments of ", segment);
  }
};

// Both rules; every kind of sharing; widths with and without a rest of a
// vector; segments of one token, shorter and longer than a block.
std::vector<InfiniSizes> AllSizes() {
  std::vector<InfiniSizes> sizes;
  for (const bool delta : {false, true}) {
    sizes.push_back({1, 1, 2, 1, delta});
    sizes.push_back({4, 4, 16, 8, delta});
    sizes.push_back({6, 2, 8, 5, delta});
    sizes.push_back({4, 1, 20, 7, delta});
    sizes.push_back({2, 1, 64, 100, delta});
  }
  return sizes;
}

// The parameters of a layer.
class InfiniLayer {
 public:
  InfiniLayer(const InfiniSizes& sizes, Random& random)
      : sizes_(sizes), gate_(RandomValues(sizes.heads, 0.5f, random)) {
    for (float& value : gate_) value += 0.5f;
    const int64_t half = sizes.head_dim / 2;
    for (int64_t slot = 0; slot < sizes.segment; ++slot) {
      for (int64_t m = 0; m < half; ++m) {
        const double angle = static_cast<double>(slot) *
                             std::pow(10000.0, -2.0 * m / sizes.head_dim);
        cos_.push_back(static_cast<float>(std::cos(angle)));
        sin_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }

  const InfiniSizes& sizes() const { return sizes_; }
  std::vector<float>& gate() { return gate_; }
  InfiniParams params() const {
    return {.heads = sizes_.heads,
            .kv_heads = sizes_.kv_heads,
            .head_dim = sizes_.head_dim,
            .segment = sizes_.segment,
            .delta = sizes_.delta,
            .epsilon = 1e-10f,
            .gate = gate_.data(),
            .rope_cos = cos_.data(),
            .rope_sin = sin_.data()};
  }

 private:
  InfiniSizes sizes_;
  std::vector<float> gate_, cos_, sin_;
};

// What one session remembers in the layer.
struct InfiniMemory {
  std::vector<float> memory;
  std::vector<float> open;  // of the tokens so far
  int64_t slot(const InfiniParams& params) const {
    return static_cast<int64_t>(open.size()) / params.token_floats();
  }
};

struct InfiniTokens {
  Operand q, k, v;
  InfiniTokens Slice(int64_t first, int64_t count) const {
    return {q.Slice(first, count), k.Slice(first, count),
            v.Slice(first, count)};
  }
};

class InfiniTest : public ConformanceTest {
 protected:
  InfiniTokens MakeTokens(const InfiniSizes& sizes, int64_t rows) {
    return {Operand::Uniform(rows, sizes.dim(), 1.5f, random_),
            Operand::Uniform(rows, sizes.kv_dim(), 1.5f, random_),
            Operand::Uniform(rows, sizes.kv_dim(), 1.5f, random_)};
  }

  static InfiniMemory Empty(const InfiniLayer& layer) {
    const InfiniParams params = layer.params();
    return {
        .memory = std::vector<float>(params.kv_heads * params.memory_floats()),
        .open = {}};
  }

  // Has each session read its share of the tokens, in order; replaces what it
  // remembers.
  static Operand Read(Backend& backend, ComputePath path,
                      const InfiniLayer& layer, const InfiniTokens& tokens,
                      const std::vector<int64_t>& shares,
                      std::vector<InfiniMemory>* memories) {
    const InfiniParams params = layer.params();
    const size_t sessions = shares.size();
    constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();
    std::vector<std::vector<float>> next_memory(sessions), next_open(sessions);
    std::vector<InfiniSlice> slices;
    std::vector<int64_t> slots;
    int64_t first_row = 0;
    for (size_t i = 0; i < sessions; ++i) {
      InfiniMemory& memory = (*memories)[i];
      slots.push_back(memory.slot(params));
      const int64_t room = params.segment * params.token_floats();
      memory.open.resize(room, kPoison);
      next_open[i].assign(room, kPoison);
      next_memory[i].assign(memory.memory.size(), kPoison);
      slices.push_back({.first_row = first_row,
                        .rows = shares[i],
                        .slot = slots[i],
                        .memory = memory.memory.data(),
                        .next_memory = next_memory[i].data(),
                        .open = memory.open.data(),
                        .next_open = next_open[i].data()});
      first_row += shares[i];
    }
    EXPECT_THAT(backend.Reserve(params, first_row), IsOk());
    Operand out(tokens.q.rows(), layer.sizes().dim());
    backend.Infini(
        path, params,
        {.q = tokens.q.view(), .k = tokens.k.view(), .v = tokens.v.view()},
        slices, out.view());
    EXPECT_THAT(backend.Finish(), IsOk());
    for (size_t i = 0; i < sessions; ++i) {
      InfiniMemory& memory = (*memories)[i];
      const int64_t end = slots[i] + shares[i];
      if (end >= params.segment) {
        memory.memory = next_memory[i];
        memory.open = next_open[i];
      }
      memory.open.resize(end % params.segment * params.token_floats());
    }
    return out;
  }
  static Operand Read(Backend& backend, ComputePath path,
                      const InfiniLayer& layer, const InfiniTokens& tokens,
                      InfiniMemory* memory) {
    std::vector<InfiniMemory> memories = {*memory};
    Operand out =
        Read(backend, path, layer, tokens, {tokens.q.rows()}, &memories);
    *memory = memories[0];
    return out;
  }

  // A session that has read `tokens` tokens.
  InfiniMemory MakeMemory(const InfiniLayer& layer, int64_t tokens) {
    InfiniMemory memory = Empty(layer);
    if (tokens > 0) {
      Read(reference(), ComputePath::kStep, layer,
           MakeTokens(layer.sizes(), tokens), &memory);
    }
    return memory;
  }

  Random random_{5};
};

void ExpectIdentical(const InfiniMemory& found, const InfiniMemory& wanted,
                     const std::string& what) {
  EXPECT_TRUE(Identical(found.memory, wanted.memory)) << what;
  EXPECT_TRUE(Identical(found.open, wanted.open)) << what;
}

TEST_P(InfiniTest, AgreesWithTheReferenceOnEverySize) {
  for (const InfiniSizes& sizes : AllSizes()) {
    InfiniLayer layer(sizes, random_);
    for (const int64_t read : {int64_t{0}, sizes.segment - 1,
                               2 * sizes.segment + sizes.segment / 2}) {
      for (const int64_t rows : {1, 3, 64}) {
        const InfiniMemory before = MakeMemory(layer, read);
        const InfiniTokens tokens = MakeTokens(sizes, rows);
        InfiniMemory wanted = before;
        const Operand wanted_out =
            Read(reference(), ComputePath::kStep, layer, tokens, &wanted);
        for (const ComputePath path : kBothPaths) {
          const std::string what =
              absl::StrCat(sizes.ToString(), ", ", PathName(path), ", ", rows,
                           " rows after ", read);
          InfiniMemory found = before;
          const Operand out = Read(cpu(2), path, layer, tokens, &found);
          EXPECT_TRUE(Near(out, wanted_out, kNear)) << what;
          EXPECT_TRUE(Near(found.open, wanted.open, kNear)) << what;
          // The memory grows with what it holds.
          EXPECT_TRUE(Near(found.memory, wanted.memory,
                           kNear * static_cast<double>(read + rows)))
              << what;
        }
      }
    }
  }
}

TEST_P(InfiniTest, TheNumberOfThreadsChangesNoBit) {
  const InfiniLayer layer({6, 2, 20, 30, true}, random_);
  const InfiniTokens tokens = MakeTokens(layer.sizes(), 64);
  for (const ComputePath path : kBothPaths) {
    InfiniMemory one = MakeMemory(layer, 40);
    InfiniMemory three = one;
    const Operand out_one = Read(cpu(1), path, layer, tokens, &one);
    const Operand out_three = Read(cpu(3), path, layer, tokens, &three);
    EXPECT_TRUE(Identical(out_three, out_one)) << PathName(path);
    ExpectIdentical(three, one, PathName(path));
  }
}

TEST_P(InfiniTest, AnyCutOnTheStepPathGivesTheSameBits) {
  for (const InfiniSizes& sizes : AllSizes()) {
    const InfiniLayer layer(sizes, random_);
    const InfiniTokens tokens = MakeTokens(sizes, 40);
    InfiniMemory whole = Empty(layer);
    const Operand wanted =
        Read(cpu(), ComputePath::kStep, layer, tokens, &whole);
    for (const int64_t cut : {1, 7, 39}) {
      InfiniMemory pieces = Empty(layer);
      for (int64_t row = 0; row < 40; row += cut) {
        const int64_t count = std::min<int64_t>(cut, 40 - row);
        const Operand out = Read(cpu(), ComputePath::kStep, layer,
                                 tokens.Slice(row, count), &pieces);
        EXPECT_TRUE(Identical(out, wanted.Slice(row, count)))
            << sizes.ToString();
      }
      ExpectIdentical(pieces, whole, sizes.ToString());
    }
  }
}

TEST_P(InfiniTest, ASessionInAStepDoesNotDependOnItsNeighbours) {
  const InfiniLayer layer({4, 2, 16, 6, true}, random_);
  std::vector<InfiniMemory> together;
  for (const int64_t read : {0, 5, 9, 12}) {
    together.push_back(MakeMemory(layer, read));
  }
  std::vector<InfiniMemory> alone = together;
  const std::vector<int64_t> shares = {1, 4, 1, 9};
  const InfiniTokens tokens = MakeTokens(layer.sizes(), 15);
  const Operand out =
      Read(cpu(2), ComputePath::kStep, layer, tokens, shares, &together);
  int64_t row = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    const Operand wanted = Read(cpu(), ComputePath::kStep, layer,
                                tokens.Slice(row, shares[i]), &alone[i]);
    EXPECT_TRUE(Identical(out.Slice(row, shares[i]), wanted));
    ExpectIdentical(together[i], alone[i], absl::StrCat("session ", i));
    row += shares[i];
  }
}

TEST_P(InfiniTest, ANewSessionRemembersNothing) {
  InfiniLayer layer({2, 2, 8, 8, false}, random_);
  layer.gate() = {1.0f, 1.0f};
  for (const ComputePath path : kBothPaths) {
    InfiniMemory memory = Empty(layer);
    const Operand out =
        Read(cpu(), path, layer, MakeTokens(layer.sizes(), 8), &memory);
    for (int64_t row = 0; row < 8; ++row) {
      for (int64_t i = 0; i < out.cols(); ++i) EXPECT_EQ(out.at(row, i), 0.0f);
    }
  }
}

// One key, written in each of two segments: the linear rule reads its value
// back, and so does delta after the first, but not after the second: it adds
// nothing to M and doubles z.
TEST_P(InfiniTest, WhatWasWrittenIsRead) {
  for (const bool delta : {false, true}) {
    InfiniLayer layer({1, 1, 4, 1, delta}, random_);
    layer.gate() = {1.0f};
    InfiniTokens token = MakeTokens(layer.sizes(), 1);
    InfiniMemory memory = Empty(layer);
    const auto read = [&] {
      return Read(cpu(), ComputePath::kStep, layer, token, &memory);
    };
    read();
    EXPECT_TRUE(Near(read(), token.v, 1e-5));
    Operand half = token.v;
    for (int64_t i = 0; i < 4; ++i) half.at(0, i) *= 0.5f;
    EXPECT_TRUE(Near(read(), delta ? half : token.v, 1e-5));
  }
}

TEST_P(InfiniTest, LaterTokensChangeNoBitOfWhatCameBefore) {
  const InfiniLayer layer({4, 2, 16, 40, true}, random_);
  for (const ComputePath path : kBothPaths) {
    const InfiniMemory before = MakeMemory(layer, 7);
    InfiniTokens tokens = MakeTokens(layer.sizes(), 20);
    InfiniMemory memory = before;
    const Operand wanted = Read(cpu(), path, layer, tokens, &memory);
    for (int64_t i = 0; i < tokens.v.cols(); ++i) {
      tokens.k.at(19, i) = 1e30f;
      tokens.v.at(19, i) = std::numeric_limits<float>::infinity();
    }
    memory = before;
    const Operand found = Read(cpu(), path, layer, tokens, &memory);
    EXPECT_TRUE(Identical(found.Slice(0, 19), wanted.Slice(0, 19)))
        << PathName(path);
  }
}

TEST_P(InfiniTest, ASegmentCanBeClosedEarly) {
  for (const InfiniSizes& sizes : AllSizes()) {
    const InfiniLayer layer(sizes, random_);
    const InfiniParams params = layer.params();
    const InfiniMemory memory =
        MakeMemory(layer, 2 * sizes.segment + sizes.segment / 2);
    std::vector<float> open = memory.open;
    open.resize(params.segment * params.token_floats());
    std::vector<float> wanted(memory.memory.size());
    std::vector<float> found(memory.memory.size());
    InfiniSlice slice{.slot = memory.slot(params),
                      .memory = memory.memory.data(),
                      .open = open.data()};
    slice.next_memory = wanted.data();
    reference().CloseInfiniSegment(params, slice);
    slice.next_memory = found.data();
    ASSERT_THAT(cpu(2).Reserve(params, 1), IsOk());
    cpu(2).CloseInfiniSegment(params, slice);
    EXPECT_TRUE(Near(found, wanted, 1e-3)) << sizes.ToString();
  }
}

// Whoever is served already goes on with the scratch that there was.
TEST_P(InfiniTest, ScratchThatIsRefusedTakesNothingAway) {
  const InfiniLayer layer({2, 1, 16, 8, true}, random_);
  InfiniMemory memory = Empty(layer);
  const InfiniTokens tokens = MakeTokens(layer.sizes(), 20);
  Read(cpu(2), ComputePath::kBlock, layer, tokens, &memory);
  const InfiniParams absurd = {
      .heads = 1, .kv_heads = 1, .head_dim = 1 << 20, .segment = 1};
  EXPECT_THAT(cpu(2).Reserve(absurd, 1),
              Fails(absl::StatusCode::kResourceExhausted, "refused"));
  Read(cpu(2), ComputePath::kBlock, layer, tokens, &memory);
}

INSTANTIATE_TEST_SUITE_P(Targets, InfiniTest,
                         testing::ValuesIn(CompiledTargets()), TargetTestName);

}  // namespace
}  // namespace mneme
