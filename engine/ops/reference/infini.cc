// SPDX-License-Identifier: Apache-2.0
//
// Infini-attention, one token after another. Per query head, with the keys,
// values and memory M, z of its kv head, σ(u) = ELU(u) + 1 and the rotation R
// by the slot in the segment:
//
//     a_mem = σ(q) M / max(σ(q)·z, ε)
//     a_dot = softmax over the segment so far of (R q · R k_s / √d) v_s
//     out   = g a_mem + (1 - g) a_dot
//
// and when the segment is complete, over its tokens s:
//
//     v'_s = v_s,   delta: v_s - σ(k_s) M / max(σ(k_s)·z, ε)
//     M += Σ σ(k_s)ᵀ v'_s,   z += Σ σ(k_s)
//
// A new session's memory is zero, and so is what is read from it.
#include "engine/ops/reference/infini.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace mneme::reference {
namespace {

using Vector = std::vector<double>;

// The pairs (m, m + d/2) of x turned by the angles of `slot`, or back.
Vector Rotate(const InfiniParams& params, int64_t slot, double direction,
              const float* x) {
  const int64_t half = params.head_dim / 2;
  Vector y(params.head_dim);
  for (int64_t m = 0; m < half; ++m) {
    const double c = params.rope_cos[slot * half + m];
    const double s = direction * params.rope_sin[slot * half + m];
    y[m] = x[m] * c - x[m + half] * s;
    y[m + half] = x[m + half] * c + x[m] * s;
  }
  return y;
}

Vector Sigma(Vector x) {
  for (double& value : x) value = value > 0 ? value + 1 : std::exp(value);
  return x;
}

// s M / max(s·z, ε)
Vector ReadMemory(const InfiniParams& params, const float* memory,
                  const Vector& s) {
  const int64_t dim = params.head_dim;
  double denominator = 0;
  for (int64_t i = 0; i < dim; ++i) denominator += s[i] * memory[dim * dim + i];
  denominator = std::max(denominator, double{params.epsilon});
  Vector found(dim);
  for (int64_t j = 0; j < dim; ++j) {
    for (int64_t i = 0; i < dim; ++i) found[j] += s[i] * memory[i * dim + j];
    found[j] /= denominator;
  }
  return found;
}

// What query head `head` of a token at `slot` attends to in `open`.
Vector Attend(const InfiniParams& params, const Vector& rotated, int64_t head,
              int64_t slot, const float* open) {
  const int64_t dim = params.head_dim;
  const int64_t kv_head = head / (params.heads / params.kv_heads);
  const auto row = [&](int64_t s) { return open + s * params.token_floats(); };
  Vector scores;
  for (int64_t s = 0; s <= slot; ++s) {
    const float* key = row(s) + kv_head * dim;
    double score = 0;
    for (int64_t i = 0; i < dim; ++i) score += rotated[i] * key[i];
    scores.push_back(score / std::sqrt(static_cast<double>(dim)));
  }
  const double highest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - highest);
  Vector found(dim);
  for (int64_t s = 0; s <= slot; ++s) {
    const float* value = row(s) + (params.kv_heads + kv_head) * dim;
    for (int64_t i = 0; i < dim; ++i) found[i] += scores[s] / sum * value[i];
  }
  return found;
}

}  // namespace

void WriteInfiniMemory(const InfiniParams& params, const float* memory,
                       const float* open, int64_t tokens, float* next_memory) {
  const int64_t dim = params.head_dim;
  for (int64_t head = 0; head < params.kv_heads; ++head) {
    const float* old = memory + head * params.memory_floats();
    Vector added(params.memory_floats());
    for (int64_t s = 0; s < tokens; ++s) {
      const float* row = open + s * params.token_floats();
      const Vector rotated_back = Rotate(params, s, -1, row + head * dim);
      const Vector key = Sigma(rotated_back);
      const float* v = row + (params.kv_heads + head) * dim;
      Vector value(v, v + dim);
      if (params.delta) {
        const Vector known = ReadMemory(params, old, key);
        for (int64_t j = 0; j < dim; ++j) value[j] -= known[j];
      }
      for (int64_t i = 0; i < dim; ++i) {
        for (int64_t j = 0; j < dim; ++j) {
          added[i * dim + j] += key[i] * value[j];
        }
        added[dim * dim + i] += key[i];
      }
    }
    float* next = next_memory + head * params.memory_floats();
    for (int64_t i = 0; i < params.memory_floats(); ++i) {
      next[i] = static_cast<float>(old[i] + added[i]);
    }
  }
}

void InfiniSliceByToken(const InfiniParams& params, const InfiniInputs& inputs,
                        const InfiniSlice& slice, Rows out) {
  const int64_t dim = params.head_dim;
  const float* memory = slice.memory;
  float* open = slice.open;
  int64_t slot = slice.slot;
  for (int64_t t = slice.first_row; t < slice.first_row + slice.rows; ++t) {
    float* token = open + slot * params.token_floats();
    for (int64_t head = 0; head < params.kv_heads; ++head) {
      const Vector key = Rotate(params, slot, 1, inputs.k.row(t) + head * dim);
      for (int64_t i = 0; i < dim; ++i) {
        token[head * dim + i] = static_cast<float>(key[i]);
      }
    }
    std::copy_n(inputs.v.row(t), params.kv_heads * dim,
                token + params.kv_heads * dim);
    for (int64_t head = 0; head < params.heads; ++head) {
      const float* q = inputs.q.row(t) + head * dim;
      const int64_t kv_head = head / (params.heads / params.kv_heads);
      const Vector remembered =
          ReadMemory(params, memory + kv_head * params.memory_floats(),
                     Sigma(Vector(q, q + dim)));
      const Vector attended =
          Attend(params, Rotate(params, slot, 1, q), head, slot, open);
      const double gate = params.gate[head];
      for (int64_t i = 0; i < dim; ++i) {
        out.row(t)[head * dim + i] =
            static_cast<float>(gate * remembered[i] + (1 - gate) * attended[i]);
      }
    }
    if (++slot < params.segment) continue;
    WriteInfiniMemory(params, memory, open, slot, slice.next_memory);
    memory = slice.next_memory;
    open = slice.next_open;
    slot = 0;
  }
}

}  // namespace mneme::reference
