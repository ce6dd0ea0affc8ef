// SPDX-License-Identifier: Apache-2.0
//
// TTT-Linear, primal form. Per head, the inner model is
//
//     f(x) = x + LN(x W + b)
//
// and it learns, while it reads, to map k to v. For the token at slot i of its
// mini-batch, with W and b as they were when the mini-batch began:
//
//     n = normalise(k W + b)
//     a = γ (γ n + β - (v - k))                        dLoss/dn
//     g = (a - mean(a) - n mean(a n)) / σ              dLoss/d(k W + b)
//     G += lr kᵀ g,   G_b += lr g
//     o = q + LN(q (W - te_i G) + b - te_i G_b)
//
// and after the last slot W -= te G, b -= te G_b. The per-slot scale te_i
// belongs to the token that reads, so it can not be folded into G.
#include "engine/ops/reference/ttt_linear.h"

#include <cmath>
#include <vector>

namespace mneme::reference {
namespace {

using Vector = std::vector<double>;

constexpr double kLayerNormEps = 1e-6;

// The pairs (2m, 2m + 1) of x turned by the angles of `slot`.
Vector Rotate(const TttLinearParams& params, int64_t slot, const float* x) {
  const int64_t pairs = params.head_dim / 2;
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

// x W + b, where row `dim` of `weights` is b.
Vector Affine(const Vector& x, const Vector& weights) {
  const size_t dim = x.size();
  Vector y(weights.end() - static_cast<int64_t>(dim), weights.end());
  for (size_t i = 0; i < dim; ++i) {
    for (size_t j = 0; j < dim; ++j) y[j] += x[i] * weights[i * dim + j];
  }
  return y;
}

// gradients += outer([k, 1], scaled_gradient).
void AddOuter(const Vector& k, const Vector& scaled_gradient,
              Vector& gradients) {
  const size_t dim = k.size();
  for (size_t i = 0; i <= dim; ++i) {
    const double factor = i < dim ? k[i] : 1.0;
    for (size_t j = 0; j < dim; ++j) {
      gradients[i * dim + j] += factor * scaled_gradient[j];
    }
  }
}

}  // namespace

void TttLinearSlicePrimal(const TttLinearParams& params,
                          const TttLinearInputs& inputs,
                          const TttLinearSlice& slice, Rows out) {
  const int64_t dim = params.head_dim;
  const int64_t factor_row = params.heads * 2 * dim;
  for (int64_t head = 0; head < params.heads; ++head) {
    const int64_t cells = (dim + 1) * dim;
    const float* stored = slice.weights + head * cells;
    Vector weights(stored, stored + cells);
    Vector gradients(cells, 0.0);
    float* factors = slice.factors + head * 2 * dim;
    for (int64_t i = 0; i < slice.slot; ++i) {
      const float* k = factors + i * factor_row;
      AddOuter(Vector(k, k + dim), Vector(k + dim, k + 2 * dim), gradients);
    }
    const float* gamma = params.norm_weight + head * dim;
    const float* beta = params.norm_bias + head * dim;
    int64_t slot = slice.slot;
    for (int64_t row = slice.first_row; row < slice.first_row + slice.rows;
         ++row) {
      const Vector q = Rotate(params, slot, inputs.q.row(row) + head * dim);
      const Vector k = Rotate(params, slot, inputs.k.row(row) + head * dim);
      const float* v = inputs.v.row(row) + head * dim;

      Vector n = Affine(k, weights);
      const double deviation = Normalise(n);
      Vector a(dim);
      Vector a_times_n(dim);
      for (int64_t j = 0; j < dim; ++j) {
        a[j] = gamma[j] * (gamma[j] * n[j] + beta[j] - (v[j] - k[j]));
        a_times_n[j] = a[j] * n[j];
      }
      const double mean_a = Mean(a);
      const double mean_a_n = Mean(a_times_n);
      const double lr = inputs.learning_rate.row(row)[head];
      Vector scaled_gradient(dim);
      for (int64_t j = 0; j < dim; ++j) {
        scaled_gradient[j] = lr * (a[j] - mean_a - n[j] * mean_a_n) / deviation;
      }
      AddOuter(k, scaled_gradient, gradients);

      Vector read = weights;
      const double scale = params.token_scale[slot];
      for (int64_t c = 0; c < cells; ++c) read[c] -= scale * gradients[c];
      Vector z = Affine(q, read);
      Normalise(z);
      for (int64_t j = 0; j < dim; ++j) {
        out.row(row)[head * dim + j] =
            static_cast<float>(q[j] + gamma[j] * z[j] + beta[j]);
      }

      if (++slot == params.mini_batch) {
        weights = read;
        gradients.assign(cells, 0.0);
        factors = slice.next_factors + head * 2 * dim;
        slot = 0;
      } else {
        float* factor = factors + (slot - 1) * factor_row;
        for (int64_t j = 0; j < dim; ++j) {
          factor[j] = static_cast<float>(k[j]);
          factor[dim + j] = static_cast<float>(scaled_gradient[j]);
        }
      }
    }
    if (slice.slot + slice.rows >= params.mini_batch) {
      float* next = slice.next_weights + head * cells;
      for (int64_t c = 0; c < cells; ++c) {
        next[c] = static_cast<float>(weights[c]);
      }
    }
  }
}

}  // namespace mneme::reference
