// SPDX-License-Identifier: Apache-2.0
//
// TTT-Linear and TTT-MLP: a layer whose memory is a small model per head, one
// affine map or two with GELU between them, trained by gradient steps while it
// reads, a mini-batch of tokens at a time.
// Sun et al. 2024, "Learning to (Learn at Test Time)", arXiv:2407.04620,
// sections 2.2 to 2.7; the projections, rotation, learnable rate, convolutions
// and output norm as in the authors' published PyTorch model. One departure:
// the open mini-batch is kept as the rank-1 factors of its gradients, not as
// their running sum, so that a token appends a row instead of rewriting a
// matrix. Settings beyond that model (own heads, normalised queries and keys,
// another gate of the rate or the output, no rotation, no output norm) leave
// the learner as it is; one without inner norm is mixers/delta.h.
#ifndef MNEME_ENGINE_MODEL_MIXERS_TTT_H_
#define MNEME_ENGINE_MODEL_MIXERS_TTT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/mixers/sequence_mixer.h"

namespace mneme {

// Parts of a TTT state, in this order from its first part. What the floats of
// a head are is in TttParams.
enum class TttPart : int64_t {
  // Per head the inner model as of the start of the open mini-batch, in rows
  // of head_dim: heads * (head_dim + 1) of them, or with TTT-MLP heads *
  // (8 head_dim + 5).
  kWeights = 0,
  // Up to [mini_batch - 1, heads * factor_floats]: what the tokens of the open
  // mini-batch taught. factor_floats is 2 head_dim, with TTT-MLP 10.
  kFactors = 1,
  // [conv_kernel - 1, heads * head_dim]: the last inputs of the q and k
  // convolutions, oldest first. With share_qk only.
  kWindow = 2,
};

// The mixer of the config's ttt_layer_type. Takes the tensors under `prefix`.
// Errors as Weights.
absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeTtt(
    const BuildContext& context, const std::string& prefix);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MIXERS_TTT_H_
