// SPDX-License-Identifier: Apache-2.0
//
// Attention, one token after another. The token at position p, whose view
// begins at b, sees with S sinks
//
//     t in [b, p]                by q
//     t in [0, S) before that    by far_q
#include "engine/ops/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace mneme::reference {

void AttentionSliceByToken(const AttentionParams& params,
                           const AttentionInputs& inputs,
                           const AttentionSlice& slice, Rows out) {
  const int64_t dim = params.head_dim;
  const int64_t kv_floats = params.kv_heads * dim;
  for (int64_t row = 0; row < slice.rows; ++row) {
    const int64_t position = slice.position + row;
    const float* k = inputs.k.row(slice.first_row + row);
    const float* v = inputs.v.row(slice.first_row + row);
    const auto keep = [&](float* token) {
      std::copy_n(v, kv_floats, std::copy_n(k, kv_floats, token));
    };
    keep(slice.ring + position % slice.ring_rows * params.token_floats());
    if (position < params.sinks) {
      keep(slice.sinks + position * params.token_floats());
    }
    const int64_t first = slice.begins[row];
    for (int64_t head = 0; head < params.heads; ++head) {
      const int64_t kv_head = head / (params.heads / params.kv_heads);
      std::vector<const float*> values;
      std::vector<double> scores;
      const auto dot = [&](const ConstRows& queries, const float* key) {
        const float* q = queries.row(slice.first_row + row) + head * dim;
        double sum = 0;
        for (int64_t i = 0; i < dim; ++i) sum += double{q[i]} * key[i];
        return sum * params.scale;
      };
      const auto see = [&](const ConstRows& queries, const float* token,
                           int64_t distance) {
        double score = dot(queries, token + kv_head * dim);
        if (params.distance_keys != nullptr) {
          const int64_t d = std::min(distance, params.distances - 1);
          score += dot(inputs.distance_q,
                       params.distance_keys + (d * params.heads + head) * dim);
        }
        if (params.slopes != nullptr) {
          score -= double{params.slopes[head]} * static_cast<double>(distance);
        }
        scores.push_back(score);
        values.push_back(token + kv_floats + kv_head * dim);
      };
      for (int64_t t = 0; t < std::min(params.sinks, first); ++t) {
        // From where the cache, beginning with them, would end.
        see(inputs.far_q, slice.sinks + t * params.token_floats(),
            std::min(position, params.sinks + params.kept) - t);
      }
      for (int64_t t = first; t <= position; ++t) {
        const int64_t ring_row =
            (t % slice.ring_rows + slice.ring_rows) % slice.ring_rows;
        see(inputs.q, slice.ring + ring_row * params.token_floats(),
            position - t);
      }
      const double highest = *std::max_element(scores.begin(), scores.end());
      double sum = 0;
      for (double& score : scores) sum += score = std::exp(score - highest);
      for (int64_t i = 0; i < dim; ++i) {
        double found = 0;
        for (size_t s = 0; s < scores.size(); ++s) {
          found += scores[s] / sum * values[s][i];
        }
        out.row(slice.first_row + row)[head * dim + i] =
            static_cast<float>(found);
      }
    }
  }
}

}  // namespace mneme::reference
