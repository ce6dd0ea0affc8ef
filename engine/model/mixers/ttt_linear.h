// SPDX-License-Identifier: Apache-2.0
//
// TTT-Linear: a layer whose memory is a linear model per head, trained by
// gradient steps while it reads, a mini-batch of tokens at a time.
// Sun et al. 2024, "Learning to (Learn at Test Time)", arXiv:2407.04620,
// sections 2.2 to 2.7; the projections, rotation, learnable rate, convolutions
// and output norm as in the authors' published PyTorch model. One departure:
// the open mini-batch is kept as the rank-1 factors of its gradients, not as
// their running sum, so that a token appends a row instead of rewriting a
// matrix.
#ifndef MNEME_ENGINE_MODEL_MIXERS_TTT_LINEAR_H_
#define MNEME_ENGINE_MODEL_MIXERS_TTT_LINEAR_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/mixers/sequence_mixer.h"

namespace mneme {

// Parts of a TTT-Linear state, in this order from its first part.
enum class TttLinearPart : int64_t {
  // [heads * (head_dim + 1), head_dim]: per head W above one row b, as of
  // the start of the open mini-batch.
  kWeights = 0,
  // Up to [mini_batch - 1, heads * 2 * head_dim]: per token of the open
  // mini-batch and head the rotated k, then lr * dLoss/dz.
  kFactors = 1,
  // [conv_kernel - 1, model_dim]: the last inputs of the q and k
  // convolutions, oldest first. With share_qk only.
  kWindow = 2,
};

// Takes the tensors under `prefix`. Errors as Weights.
absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeTttLinear(
    const BuildContext& context, const std::string& prefix);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MIXERS_TTT_LINEAR_H_
