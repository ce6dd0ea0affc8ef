// SPDX-License-Identifier: Apache-2.0
//
// The operations that models are made of, each coarse enough to be one fused
// kernel. `reference` computes them with plain double-precision loops and is
// the oracle; `cpu` is what users run.
//
// All activations are f32 matrices of one row per token. Nothing here can
// fail on its arguments: shapes were checked when the model was loaded. What
// can go wrong below (a library out of memory, a device) is remembered and
// told by Finish().
#ifndef MNEME_ENGINE_OPS_BACKEND_H_
#define MNEME_ENGINE_OPS_BACKEND_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/tensor/tensor.h"

namespace mneme {

// Which kernels compute a row. Both are exact about the mathematics; they sum
// in different orders, so the choice must follow from a session's history.
enum class ComputePath {
  // Prefill: many rows of one session. Matrix products of exactly
  // kBlockRows rows.
  kBlock,
  // Decode: rows of any sessions. A row's result does not depend on how many
  // other rows there are.
  kStep,
};

inline constexpr int64_t kBlockRows = 64;

// Rows that a buffer must have room for so that `rows` of it may be an
// operand on `path`. The rows beyond are read and written, and mean nothing.
inline int64_t PaddedRows(ComputePath path, int64_t rows) {
  return path == ComputePath::kStep
             ? rows
             : (rows + kBlockRows - 1) / kBlockRows * kBlockRows;
}

// A weight matrix [out, in] in the form its backend wants. Immutable.
class Matrix {
 public:
  virtual ~Matrix() = default;
  int64_t out() const { return out_; }
  int64_t in() const { return in_; }
  int64_t bytes() const { return bytes_; }  // of memory held

 protected:
  Matrix(int64_t out, int64_t in, int64_t bytes)
      : out_(out), in_(in), bytes_(bytes) {}

 private:
  const int64_t out_;
  const int64_t in_;
  const int64_t bytes_;
};

// Which numbers of a head turn together.
enum class RotationPairs {
  kHalves,      // m and m + head_dim / 2
  kNeighbours,  // 2m and 2m + 1
};

// What stands between two maps.
enum class Activation {
  kSilu,      // x sigmoid(x)
  kSigmoid,   // 1 / (1 + e^-x)
  kGeluTanh,  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³)))
  kGeluErf,   // x/2 (1 + erf(x / sqrt(2)))
  kRelu,      // max(0, x)
};

// A depthwise causal convolution with bias.
struct CausalConvParams {
  int64_t taps = 0;               // k >= 1
  const float* weight = nullptr;  // [taps, channels]; the last tap is "now"
  const float* bias = nullptr;    // [channels]
};

// Consecutive rows of one session in a convolution.
struct CausalConvSlice {
  int64_t first_row = 0;
  int64_t rows = 0;
  const float* window = nullptr;  // [taps - 1, channels] inputs before row 0
  float* next_window = nullptr;   // likewise after the last row; or null
};

// What a TTT layer learns with, per head: a chain of affine maps x W + b from
// head_dim to head_dim.
enum class TttInner {
  kLinear,  // x W1 + b1
  kMlp,     // gelu(x W1 + b1) W2 + b2 through 4 * head_dim, tanh form of gelu
};

// The inner learner of a TTT layer.
struct TttParams {
  TttInner inner = TttInner::kLinear;
  int64_t heads = 0;
  int64_t head_dim = 0;                // even with a rotation
  int64_t mini_batch = 0;              // K >= 1
  const float* norm_weight = nullptr;  // [heads, head_dim]
  const float* norm_bias = nullptr;    // [heads, head_dim]
  const float* token_scale = nullptr;  // [mini_batch], te >= 0
  const float* rope_cos = nullptr;     // [mini_batch, head_dim / 2], or null
  const float* rope_sin = nullptr;     // likewise: nothing is rotated

  int64_t maps() const { return inner == TttInner::kMlp ? 2 : 1; }
  // Numbers that enter map 0, and that leave map i and enter the next.
  int64_t in_dim(int64_t map) const {
    return map == 0 ? head_dim : 4 * head_dim;
  }
  int64_t out_dim(int64_t map) const {
    return map + 1 == maps() ? head_dim : 4 * head_dim;
  }
  // Of one head: map after map W [in, out] above one row b [out].
  int64_t weight_floats() const {
    int64_t floats = 0;
    for (int64_t i = 0; i < maps(); ++i) {
      floats += (in_dim(i) + 1) * out_dim(i);
    }
    return floats;
  }
  // Of one token and head: map after map what enters it [in], then
  // lr * dLoss/d(what leaves it) [out]: its gradient as a rank-1 product.
  int64_t factor_floats() const {
    int64_t floats = 0;
    for (int64_t i = 0; i < maps(); ++i) floats += in_dim(i) + out_dim(i);
    return floats;
  }
};

// Consecutive rows of one session in a TTT layer.
//
// weights is the inner model at the start of the open mini-batch; factors
// holds the gradients of the open mini-batch's tokens.
//
// Rows that complete a mini-batch rewrite the weights into next_weights
// (which may be `weights` itself). Rows that stay open append to factors if
// they belong to the mini-batch that was open at the start, else they are
// written to next_factors from row 0.
struct TttSlice {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t slot = 0;                // of the first row: position mod K
  const float* weights = nullptr;  // [heads, weight_floats]
  float* next_weights = nullptr;   // likewise
  float* factors = nullptr;        // [mini_batch - 1, heads, factor_floats]
  float* next_factors = nullptr;   // likewise
};

// The operands of a TTT layer: one row per token of all slices.
struct TttInputs {
  ConstRows q, k, v;        // [rows, heads * head_dim], before rotation
  ConstRows learning_rate;  // [rows, heads]
};

// A linear map per head that learns online: TTT's without norm, residual and
// bias, a mini-batch being one token.
struct DeltaParams {
  int64_t heads = 0;
  int64_t head_dim = 0;

  int64_t weight_floats() const { return head_dim * head_dim; }  // of one head
};

// Consecutive rows of one session in such a layer. A head whose rate is 0 does
// not touch its map; if that goes for all heads of all rows, the slice writes
// nothing and its weights stay where they are.
struct DeltaSlice {
  int64_t first_row = 0;
  int64_t rows = 0;
  const float* weights = nullptr;  // W [heads, head_dim, head_dim]
  float* next_weights = nullptr;   // likewise; may be `weights` itself
  bool wrote = false;              // set: next_weights holds what is newest
};

// The operands of such a layer: one row per token of all slices.
struct DeltaInputs {
  ConstRows q, k, v;        // [rows, heads * head_dim]
  ConstRows learning_rate;  // [rows, heads]
};

// Infini-attention: causal attention inside a segment, and beside it a matrix
// per head of keys and values to which every finished segment is added.
struct InfiniParams {
  int64_t heads = 0;            // of queries
  int64_t kv_heads = 0;         // of keys, values and memories; divides heads
  int64_t head_dim = 0;         // even
  int64_t segment = 0;          // tokens, >= 1
  bool delta = false;           // the memory learns what it does not know yet
  float epsilon = 0;            // least denominator of a read
  const float* gate = nullptr;  // [heads], 0 to 1: weight of the memory
  const float* rope_cos = nullptr;  // [segment, head_dim / 2]
  const float* rope_sin = nullptr;  // [segment, head_dim / 2]

  // Of one kv head: M [head_dim, head_dim] above one row z [head_dim].
  int64_t memory_floats() const { return (head_dim + 1) * head_dim; }
  // Of one token of an open segment: the rotated keys of all kv heads, then
  // their values.
  int64_t token_floats() const { return 2 * kv_heads * head_dim; }
};

// Consecutive rows of one session in an Infini-attention layer.
//
// Rows that complete a segment rewrite the memory into next_memory (which may
// be `memory` itself). Keys and values of rows are written to `open` if they
// belong to the segment that was open at the start, else to next_open from
// row 0; what a completed segment left there means nothing any more.
struct InfiniSlice {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t slot = 0;               // of the first row in its segment
  const float* memory = nullptr;  // [kv_heads, memory_floats]
  float* next_memory = nullptr;   // likewise
  float* open = nullptr;          // [segment, token_floats]
  float* next_open = nullptr;     // likewise
};

// The operands of an Infini-attention layer: one row per token of all slices,
// before rotation.
struct InfiniInputs {
  ConstRows q;     // [rows, heads * head_dim]
  ConstRows k, v;  // [rows, kv_heads * head_dim]
};

// Causal softmax attention to the newest tokens, and to the first few. A score
// may depend on how far a key is behind its query, by a slope or by a learned
// vector per distance.
struct AttentionParams {
  int64_t heads = 0;     // of queries
  int64_t kv_heads = 0;  // of keys and values; divides heads
  int64_t head_dim = 0;
  int64_t kept = 0;   // most older tokens that one sees, but for sinks
  int64_t sinks = 0;  // first tokens that all see
  float scale = 0;    // of q·k
  // [heads], taken off a score as often as the distance says; or null.
  const float* slopes = nullptr;
  // [distances, heads * head_dim]: what the query of distances is multiplied
  // with; the last row serves all that are farther. Or null.
  const float* distance_keys = nullptr;
  int64_t distances = 0;

  // Of one token: the keys of all kv heads, then their values.
  int64_t token_floats() const { return 2 * kv_heads * head_dim; }
};

// Consecutive rows of one session in an attention layer. Their keys and values
// are written to `ring`, and the first of a session also to `sinks`. A row
// sees the ring from begins[row] to itself, and the sinks before that.
struct AttentionSlice {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t position = 0;             // of the first row
  const int64_t* begins = nullptr;  // [rows], not falling, kept at most behind
                                    // the row's position; may be negative
  float* ring = nullptr;   // [ring_rows, token_floats]: position p lies in row
                           // p mod ring_rows
  int64_t ring_rows = 0;   // >= kept + rows
  float* sinks = nullptr;  // [sinks, token_floats]
};

// The operands of an attention layer: one row per token of all slices, rotated
// or whatever else makes them know their positions.
struct AttentionInputs {
  ConstRows q;           // [rows, heads * head_dim]
  ConstRows k, v;        // [rows, kv_heads * head_dim]
  ConstRows far_q;       // as q, for the sinks once they are out of the window;
                         // with sinks only
  ConstRows distance_q;  // as q, for distance_keys; with these only
};

using MixerParams =
    std::variant<TttParams, DeltaParams, InfiniParams, AttentionParams>;

// What loading a model asks of a backend.
class Preparer {
 public:
  virtual ~Preparer() = default;

  // Copies a weight [out, in] of F32, F16 or BF16 (bytes at any address) into
  // the backend's form, which computes as if it were f32. RESOURCE_EXHAUSTED
  // if memory is refused.
  virtual absl::StatusOr<std::unique_ptr<const Matrix>> PrepareMatrix(
      const TensorView& weight) = 0;

  // Makes room for the scratch of the mixer's operation, with these sizes and
  // at most `rows` rows a slice. RESOURCE_EXHAUSTED if memory is refused.
  virtual absl::Status Reserve(const MixerParams& params, int64_t rows) = 0;

  // y [rows, out] = x [rows, in] Wᵀ, for tables that follow from weights. An
  // error as Backend::Finish.
  virtual absl::Status Multiply(const Matrix& weight, ConstRows x, Rows y) = 0;
};

// One caller at a time. Every method of its own works on buffers taken with
// PaddedRows(path, rows) rows.
class Backend : public Preparer {
 public:
  // "cpu", "reference"
  virtual std::string_view name() const = 0;

  // What decides the bits of a result beside the inputs: instruction set and
  // library versions. Recorded with what was computed.
  virtual std::string arithmetic_level() const = 0;

  // y = x weightᵀ.   x [rows, in], y [rows, out] overwritten.
  virtual void Matmul(ComputePath path, const Matrix& weight, ConstRows x,
                      Rows y) = 0;

  // y[i] = scale * table[ids[i]].   REQUIRES: 0 <= id < table.out().
  virtual void GatherRows(const Matrix& table, absl::Span<const int32_t> ids,
                          float scale, Rows y) = 0;

  // y = weight * x / sqrt(mean(x²) + eps) per row.   y may be x.
  virtual void RmsNorm(ConstRows x, absl::Span<const float> weight, float eps,
                       Rows y) = 0;

  // y += x.
  virtual void Accumulate(ConstRows x, Rows y) = 0;

  // y = weight * (x - mean(x)) / sqrt(variance(x) + eps) + bias per row.
  // y may be x.
  virtual void LayerNorm(ConstRows x, absl::Span<const float> weight,
                         absl::Span<const float> bias, float eps, Rows y) = 0;

  // gate = activation(gate), and times up unless up.data is null.
  virtual void Activate(Activation activation, ConstRows up, Rows gate) = 0;

  // x = scale * sigmoid(x + bias), bias [cols].
  virtual void ScaledSigmoid(absl::Span<const float> bias, float scale,
                             Rows x) = 0;

  // x = scale * clamp(stretch * sigmoid(x + bias) - (stretch - 1) / 2, 0, 1),
  // bias [cols]: with a stretch above 1 exactly 0 or scale for numbers far
  // from 0. Louizos et al. 2018, arXiv:1712.01312, equations 11 and 12, with
  // the bounds (1 - stretch) / 2 and (1 + stretch) / 2 and no noise.
  virtual void ScaledHardSigmoid(absl::Span<const float> bias, float stretch,
                                 float scale, Rows x) = 0;

  // Each head of x divided by sqrt(Σ x² + eps); x [rows, heads * head_dim].
  virtual void NormaliseHeads(int64_t head_dim, float eps, Rows x) = 0;

  // y_t[c] = bias[c] + Σ_j weight[j, c] x_{t - (taps - 1) + j}[c], where the
  // rows before the first of a slice are its window.   y must not be x.
  virtual void CausalConv(const CausalConvParams& params, ConstRows x,
                          absl::Span<const CausalConvSlice> slices, Rows y) = 0;

  // out [rows, heads * head_dim] = what the inner learner of each slice says
  // while it reads, and the slice's weights and factors advanced.
  // Sun et al. 2024, arXiv:2407.04620, section 2.4 (mini-batch TTT) and 2.5
  // (dual form); with the rotation, the per-token scale and the residual
  // LayerNorm model of the authors' published code, and gradients kept as
  // rank-1 factors instead of their sum.
  virtual void Ttt(ComputePath path, const TttParams& params,
                   const TttInputs& inputs, absl::Span<const TttSlice> slices,
                   Rows out) = 0;

  // Per head and row, W being what the rows before made of it:
  //
  //     W += rate kᵀ (v - k W)   unless the rate is 0
  //     out = q W
  //
  // out [rows, heads * head_dim]. Sets `wrote` of the slices, and so waits for
  // the rates. Widrow and Hoff 1960, "Adaptive switching circuits"; as the
  // memory of a sequence model Schlag et al. 2021, arXiv:2102.11174, equation
  // 24; as TTT with K = 1, Sun et al. 2024, arXiv:2407.04620, section 2.4.
  virtual void Delta(const DeltaParams& params, const DeltaInputs& inputs,
                     absl::Span<DeltaSlice> slices, Rows out) = 0;

  // out [rows, heads * head_dim] = what each slice's tokens find in their
  // segment and in the memory, and the slice's memory and segment advanced.
  // Munkhdalai et al. 2024, arXiv:2404.07143, equations 6 to 10; with the root
  // of the head's width in equation 6, and query heads that share the keys and
  // the memory of heads / kv_heads.
  virtual void Infini(ComputePath path, const InfiniParams& params,
                      const InfiniInputs& inputs,
                      absl::Span<const InfiniSlice> slices, Rows out) = 0;

  // Completes a slice's open segment after `slot` tokens, as if it had no
  // room for more. REQUIRES: rows is 0.
  virtual void CloseInfiniSegment(const InfiniParams& params,
                                  const InfiniSlice& slice) = 0;

  // out [rows, heads * head_dim] = softmax(scale (q·k + distance_q·d) - s D) v
  // over what each token sees of its own slice, the slice's ring and its sinks,
  // where the key is D behind, d is its distance key and s the head's slope.
  // Vaswani et al. 2017, arXiv:1706.03762, equation 1; sinks: Xiao et al.
  // 2023, arXiv:2309.17453, section 3.2; slopes: Press et al. 2021,
  // arXiv:2108.12409, section 3; distance keys: Dai et al. 2019,
  // arXiv:1901.02860, section 3.3.
  virtual void Attention(ComputePath path, const AttentionParams& params,
                         const AttentionInputs& inputs,
                         absl::Span<const AttentionSlice> slices, Rows out) = 0;

  // The pairs of each head of x turned by the angles of its row; x is
  // [rows, heads * head_dim], and cosines and sines [rows, head_dim / 2].
  virtual void Rotate(RotationPairs pairs, ConstRows cosines, ConstRows sines,
                      int64_t head_dim, Rows x) = 0;

  // x += bias, [cols], in every row.
  virtual void AddBias(absl::Span<const float> bias, Rows x) = 0;

  // Logits become logarithms of probabilities, in place. Band i of the columns
  // ends at ends[i]. Those of band 0 and the columns of `clusters`
  // [rows, bands - 1] share a softmax; column i - 1 of the clusters is the
  // probability of band i, in which the band's own softmax shares.
  // Grave et al. 2016, arXiv:1609.04309, section 4.
  virtual void AdaptiveLogSoftmax(absl::Span<const int64_t> ends,
                                  ConstRows clusters, Rows logits) = 0;

  // Waits until all of the above has happened. INTERNAL or
  // RESOURCE_EXHAUSTED if any of it failed since the last call: then nothing
  // that was written may be used.
  virtual absl::Status Finish() = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_OPS_BACKEND_H_
