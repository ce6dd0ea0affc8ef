// SPDX-License-Identifier: Apache-2.0
//
// A TTT layer of any size, what a session remembers in it, and a fixture that
// has a backend read tokens.
#ifndef MNEME_TESTS_OPS_TTT_FIXTURE_H_
#define MNEME_TESTS_OPS_TTT_FIXTURE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/ops/conformance.h"

namespace mneme {

// f32 against f64 over up to a dozen mini-batches. Mistakes in the formulas
// show as 2e-3 and more.
inline constexpr double kTolerance = 2e-4;

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
  std::string ToString() const;
};

// Each of `sizes` with either inner model.
std::vector<Sizes> Both(const std::vector<Sizes>& sizes);

// The parameters of a layer, with random numbers wherever training would have
// left some.
class Layer {
 public:
  Layer(const Sizes& sizes, Random& random);

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
            .rope_cos = rotates() ? cos_.data() : nullptr,
            .rope_sin = rotates() ? sin_.data() : nullptr};
  }

 private:
  // Heads of an odd width have no pairs to rotate.
  bool rotates() const { return sizes_.head_dim % 2 == 0; }

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
  Tokens MakeTokens(const Sizes& sizes, int64_t rows);

  // A session that has read `slot` tokens of its mini-batch.
  Memory MakeMemory(const Sizes& sizes, int64_t slot);

  // Has each session read its share of the tokens, in order, and checks that
  // nothing was written that the contract does not say.
  static Result Read(Backend& backend, ComputePath path, const Layer& layer,
                     const std::vector<Memory>& before, const Tokens& tokens,
                     const std::vector<int64_t>& shares,
                     Placement placement = Placement::kElsewhere);
  static Result Read(Backend& backend, ComputePath path, const Layer& layer,
                     const Memory& before, const Tokens& tokens,
                     Placement placement = Placement::kElsewhere);

  // To kTolerance.
  static void ExpectNear(const Result& found, const Result& wanted,
                         const std::string& what);

  static void ExpectIdentical(const Memory& found, const Memory& wanted,
                              const std::string& what);
  static void ExpectIdentical(const Result& found, const Result& wanted,
                              const std::string& what);

  Random random_{4};
};

}  // namespace mneme

#endif  // MNEME_TESTS_OPS_TTT_FIXTURE_H_
