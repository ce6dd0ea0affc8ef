// SPDX-License-Identifier: Apache-2.0
//
// TTT, primal form. Per head, the inner model is
//
//     f(x) = x + LN(g(x)),   g(x) = x W1 + b1                        linear
//                            g(x) = gelu(x W1 + b1) W2 + b2          mlp
//
// and it learns, while it reads, to map k to v. For the token at slot i of its
// mini-batch, with the weights as they were when the mini-batch began:
//
//     z1 = k W1 + b1,   mlp: x2 = gelu(z1), z2 = x2 W2 + b2
//     n = normalise(the last z)
//     a = γ (γ n + β - (v - k))                        dLoss/dn
//     g = (a - mean(a) - n mean(a n)) / σ              dLoss/d(the last z)
//     mlp: g2 = g, g1 = (g2 W2ᵀ) gelu'(z1)
//     G_W1 += lr kᵀ g1,  G_b1 += lr g1                 and so for x2 and g2
//     o = q + LN(g(q) with every W - te_i G_W and b - te_i G_b)
//
// and after the last slot W -= te G_W, b -= te G_b. The per-slot scale te_i
// belongs to the token that reads, so it can not be folded into G.
#include "engine/ops/reference/ttt.h"

#include <cmath>
#include <vector>

#include "engine/ops/reference/gelu.h"

namespace mneme::reference {
namespace {

using Vector = std::vector<double>;

constexpr double kLayerNormEps = 1e-6;

// One affine map of the inner model: W [in, out] above one row b [out].
struct Map {
  int64_t in = 0;
  int64_t out = 0;
  Vector weights;    // at the start of the mini-batch
  Vector gradients;  // Σ lr dLoss/dweights over the mini-batch
};

// What a map met with one token, as it is kept.
struct Factor {
  Vector input;            // [in]
  Vector scaled_gradient;  // [out], lr dLoss/d(output)
};

// The pairs (2m, 2m + 1) of x turned by the angles of `slot`.
Vector Rotate(const TttParams& params, int64_t slot, const float* x) {
  const int64_t pairs = params.head_dim / 2;
  if (params.rope_cos == nullptr) return Vector(x, x + params.head_dim);
  Vector rotated(params.head_dim);
  for (int64_t m = 0; m < pairs; ++m) {
    const double c = params.rope_cos[slot * pairs + m];
    const double s = params.rope_sin[slot * pairs + m];
    rotated[2 * m] = x[2 * m] * c - x[2 * m + 1] * s;
    rotated[2 * m + 1] = x[2 * m + 1] * c + x[2 * m] * s;
  }
  return rotated;
}

double Mean(const Vector& x) {
  double sum = 0;
  for (const double value : x) sum += value;
  return sum / static_cast<double>(x.size());
}

// x to mean 0 and variance 1, in place; returns the standard deviation.
double Normalise(Vector& x) {
  const double mean = Mean(x);
  double variance = 0;
  for (double& value : x) {
    value -= mean;
    variance += value * value;
  }
  const double deviation =
      std::sqrt(variance / static_cast<double>(x.size()) + kLayerNormEps);
  for (double& value : x) value /= deviation;
  return deviation;
}

Vector Gelu(Vector x) {
  for (double& value : x) value = GeluTanh(value);
  return x;
}

// x W + b.
Vector Affine(const Map& map, const Vector& x, const Vector& weights) {
  Vector y(weights.end() - map.out, weights.end());
  for (int64_t i = 0; i < map.in; ++i) {
    for (int64_t j = 0; j < map.out; ++j) {
      y[j] += x[i] * weights[i * map.out + j];
    }
  }
  return y;
}

// g Wᵀ.
Vector Back(const Map& map, const Vector& g) {
  Vector x(map.in, 0.0);
  for (int64_t i = 0; i < map.in; ++i) {
    for (int64_t j = 0; j < map.out; ++j) {
      x[i] += g[j] * map.weights[i * map.out + j];
    }
  }
  return x;
}

// map.gradients += outer([input, 1], scaled_gradient).
void AddOuter(const Factor& factor, Map& map) {
  for (int64_t i = 0; i <= map.in; ++i) {
    const double x = i < map.in ? factor.input[i] : 1.0;
    for (int64_t j = 0; j < map.out; ++j) {
      map.gradients[i * map.out + j] += x * factor.scaled_gradient[j];
    }
  }
}

// One head of one slice.
class Head {
 public:
  Head(const TttParams& params, int64_t head, const float* weights)
      : params_(params),
        head_(head),
        gamma_(params.norm_weight + head * params.head_dim),
        beta_(params.norm_bias + head * params.head_dim) {
    weights += head * params.weight_floats();
    for (int64_t i = 0; i < params.maps(); ++i) {
      const int64_t cells = (params.in_dim(i) + 1) * params.out_dim(i);
      maps_.push_back({.in = params.in_dim(i),
                       .out = params.out_dim(i),
                       .weights = Vector(weights, weights + cells),
                       .gradients = Vector(cells, 0.0)});
      weights += cells;
    }
  }

  // What token `i` of the open mini-batch taught, from `factors`.
  void LearnAgain(const float* factors, int64_t i) {
    const float* from = Place(factors, i);
    for (Map& map : maps_) {
      const float* gradient = from + map.in;
      AddOuter({Vector(from, gradient), Vector(gradient, gradient + map.out)},
               map);
      from = gradient + map.out;
    }
  }

  // One token learned; what it taught, map by map.
  std::vector<Factor> Learn(const Vector& k, const float* v, double lr) {
    std::vector<Factor> factors;
    std::vector<Vector> outputs;
    for (const Map& map : maps_) {
      factors.push_back({outputs.empty() ? k : Gelu(outputs.back()), {}});
      outputs.push_back(Affine(map, factors.back().input, map.weights));
    }
    Vector gradient = LossGradient(outputs.back(), k, v);
    for (size_t i = maps_.size(); i-- > 0;) {
      factors[i].scaled_gradient = gradient;
      for (double& value : factors[i].scaled_gradient) value *= lr;
      AddOuter(factors[i], maps_[i]);
      if (i == 0) break;
      gradient = Back(maps_[i], gradient);
      for (size_t j = 0; j < gradient.size(); ++j) {
        gradient[j] *= GeluTanhDerivative(outputs[i - 1][j]);
      }
    }
    return factors;
  }

  // What is said of q with gradients scaled by `scale`.
  Vector Read(const Vector& q, double scale) const {
    Vector x = q;
    for (size_t i = 0; i < maps_.size(); ++i) {
      x = Affine(maps_[i], i == 0 ? x : Gelu(x), Scaled(maps_[i], scale));
    }
    Normalise(x);
    for (int64_t j = 0; j < params_.head_dim; ++j) {
      x[j] = q[j] + gamma_[j] * x[j] + beta_[j];
    }
    return x;
  }

  void CloseMiniBatch(double scale) {
    for (Map& map : maps_) {
      map.weights = Scaled(map, scale);
      map.gradients.assign(map.gradients.size(), 0.0);
    }
  }

  void StoreFactors(const std::vector<Factor>& taught, float* factors,
                    int64_t i) const {
    float* to = Place(factors, i);
    for (const Factor& factor : taught) {
      for (const double x : factor.input) *to++ = static_cast<float>(x);
      for (const double g : factor.scaled_gradient) {
        *to++ = static_cast<float>(g);
      }
    }
  }

  void StoreWeights(float* weights) const {
    float* to = weights + head_ * params_.weight_floats();
    for (const Map& map : maps_) {
      for (const double cell : map.weights) *to++ = static_cast<float>(cell);
    }
  }

 private:
  template <class Float>
  Float* Place(Float* factors, int64_t i) const {
    return factors + (i * params_.heads + head_) * params_.factor_floats();
  }

  static Vector Scaled(const Map& map, double scale) {
    Vector weights = map.weights;
    for (size_t c = 0; c < weights.size(); ++c) {
      weights[c] -= scale * map.gradients[c];
    }
    return weights;
  }

  // dLoss/dz of the last map's output z.
  Vector LossGradient(const Vector& z, const Vector& k, const float* v) const {
    Vector n = z;
    const double deviation = Normalise(n);
    Vector a(n.size());
    Vector a_times_n(n.size());
    for (size_t j = 0; j < n.size(); ++j) {
      a[j] = gamma_[j] * (gamma_[j] * n[j] + beta_[j] - (v[j] - k[j]));
      a_times_n[j] = a[j] * n[j];
    }
    const double mean_a = Mean(a);
    const double mean_a_n = Mean(a_times_n);
    for (size_t j = 0; j < n.size(); ++j) {
      a[j] = (a[j] - mean_a - n[j] * mean_a_n) / deviation;
    }
    return a;
  }

  const TttParams& params_;
  const int64_t head_;
  const float* const gamma_;
  const float* const beta_;
  std::vector<Map> maps_;
};

}  // namespace

void TttSlicePrimal(const TttParams& params, const TttInputs& inputs,
                    const TttSlice& slice, Rows out) {
  for (int64_t head = 0; head < params.heads; ++head) {
    const int64_t column = head * params.head_dim;
    Head model(params, head, slice.weights);
    for (int64_t i = 0; i < slice.slot; ++i) {
      model.LearnAgain(slice.factors, i);
    }
    float* factors = slice.factors;
    int64_t slot = slice.slot;
    for (int64_t row = slice.first_row; row < slice.first_row + slice.rows;
         ++row) {
      const Vector q = Rotate(params, slot, inputs.q.row(row) + column);
      const Vector k = Rotate(params, slot, inputs.k.row(row) + column);
      const double scale = params.token_scale[slot];
      const std::vector<Factor> taught = model.Learn(
          k, inputs.v.row(row) + column, inputs.learning_rate.row(row)[head]);
      const Vector said = model.Read(q, scale);
      for (int64_t j = 0; j < params.head_dim; ++j) {
        out.row(row)[column + j] = static_cast<float>(said[j]);
      }
      if (++slot == params.mini_batch) {
        model.CloseMiniBatch(scale);
        factors = slice.next_factors;
        slot = 0;
      } else {
        model.StoreFactors(taught, factors, slot - 1);
      }
    }
    if (slice.slot + slice.rows >= params.mini_batch) {
      model.StoreWeights(slice.next_weights);
    }
  }
}

}  // namespace mneme::reference
