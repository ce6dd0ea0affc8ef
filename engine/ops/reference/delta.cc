// SPDX-License-Identifier: Apache-2.0
//
// The delta rule, one token after another. Per head:
//
//     e = v - k W,   W += rate kᵀ e   if the rate is not 0
//     o = q W
//
// A token is told what it has just taught. W is kept in double precision from
// token to token, and rounded where the slice ends.
#include "engine/ops/reference/delta.h"

#include <algorithm>
#include <vector>

namespace mneme::reference {
namespace {

using Vector = std::vector<double>;

// x W.
Vector Map(const Vector& weights, int64_t dim, const float* x) {
  Vector y(dim);
  for (int64_t i = 0; i < dim; ++i) {
    for (int64_t j = 0; j < dim; ++j) y[j] += x[i] * weights[i * dim + j];
  }
  return y;
}

}  // namespace

void DeltaSliceByToken(const DeltaParams& params, const DeltaInputs& inputs,
                       DeltaSlice& slice, Rows out) {
  const int64_t dim = params.head_dim;
  slice.wrote = false;
  std::vector<Vector> maps;
  for (int64_t head = 0; head < params.heads; ++head) {
    const float* old = slice.weights + head * params.weight_floats();
    Vector weights(old, old + params.weight_floats());
    for (int64_t t = slice.first_row; t < slice.first_row + slice.rows; ++t) {
      const double rate = inputs.learning_rate.row(t)[head];
      if (rate != 0) {
        slice.wrote = true;
        const float* k = inputs.k.row(t) + head * dim;
        const float* v = inputs.v.row(t) + head * dim;
        const Vector known = Map(weights, dim, k);
        for (int64_t i = 0; i < dim; ++i) {
          for (int64_t j = 0; j < dim; ++j) {
            weights[i * dim + j] += rate * k[i] * (v[j] - known[j]);
          }
        }
      }
      const Vector said = Map(weights, dim, inputs.q.row(t) + head * dim);
      std::copy(said.begin(), said.end(), out.row(t) + head * dim);
    }
    maps.push_back(std::move(weights));
  }
  if (!slice.wrote) return;
  float* to = slice.next_weights;
  for (const Vector& weights : maps) {
    to = std::copy(weights.begin(), weights.end(), to);
  }
}

}  // namespace mneme::reference
