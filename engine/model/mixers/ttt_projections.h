// SPDX-License-Identifier: Apache-2.0
//
// What stands around the inner learner of a TTT layer, whatever that is: the
// projections to its operands, with their convolutions and learning rates, and
// what becomes of its output.
#ifndef MNEME_ENGINE_MODEL_MIXERS_TTT_PROJECTIONS_H_
#define MNEME_ENGINE_MODEL_MIXERS_TTT_PROJECTIONS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/model/causal_conv.h"
#include "engine/model/pass.h"
#include "engine/tensor/tensor.h"

namespace mneme {

// Immutable and thread-safe. Widths: `inner` is heads * head_dim of the
// learner, which need not be the model's.
class TttProjections {
 public:
  // Takes the tensors under `prefix`, but for the learner's own. Errors as
  // Weights.
  static absl::StatusOr<TttProjections> Take(const BuildContext& context,
                                             const std::string& prefix);

  // Scratch of one pass: one row per token.
  struct Operands {
    Rows q, k, v;  // [rows, inner]
    Rows rate;     // [rows, heads]
    Rows gate;     // [rows, inner]; with use_gate only
  };

  // The operands that h [rows, model_dim] makes, in scratch of the caller's
  // frame. `window`: the part with the convolutions' window, which moves on.
  Operands Project(const Pass& pass, int64_t window, ConstRows h) const;

  // y [rows, model_dim] = what is made of out [rows, inner], what the learner
  // said; overwrites out and the gate.
  void Finish(const Pass& pass, const Operands& operands, Rows out,
              Rows y) const;

  // Appends the convolutions' window, [conv_kernel - 1, inner], if there are
  // any.
  void AddWindow(LayerSpec& spec) const;

  // [mini_batch] te: what rates are multiplied with by the slot of the token
  // that reads; 1 with a rate of its own scale. Of Sun et al.'s code.
  absl::Span<const float> token_scale() const { return token_scale_.values(); }

  int64_t weight_bytes() const;
  // What Project takes in a pass of at most `rows`.
  int64_t scratch_bytes(int64_t rows) const;

 private:
  explicit TttProjections(const ModelConfig& config);

  int64_t heads_;
  int64_t head_dim_;
  int64_t conv_kernel_;
  float rate_scale_;
  TttConfig config_;
  std::unique_ptr<const Matrix> q_proj_, v_proj_;  // [inner, model]
  std::unique_ptr<const Matrix> k_proj_;           // without share_qk
  std::unique_ptr<const Matrix> g_proj_;           // with use_gate
  std::unique_ptr<const Matrix> o_proj_;           // [model, inner]
  absl::optional<CausalConv> conv_q_, conv_k_;     // with share_qk
  std::unique_ptr<const Matrix> rate_;             // [heads, model]
  Tensor rate_bias_;                               // [heads]
  Tensor token_scale_;                             // [mini_batch]
  Tensor post_norm_weight_, post_norm_bias_;       // [inner], post_norm
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MIXERS_TTT_PROJECTIONS_H_
