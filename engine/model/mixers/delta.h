// SPDX-License-Identifier: Apache-2.0
//
// The plain linear setting of TTT: a layer whose memory is one matrix per
// head, to which every token whose gate is open writes its value under its
// key by the delta rule, and which every token reads:
//
//     W += eta kᵀ (v - k W),   out = q W
//
// This is TTT-Linear without norm, residual and bias, a mini-batch being one
// token: the step of size eta against the gradient of |k W - v|² / 2 at k.
// Sun et al. 2024, arXiv:2407.04620, sections 2.2 and 2.6. With a hard gate
// eta is exactly 0 for most tokens; these change no bit of W, and a unit of
// work without a write leaves W in its place, uncopied.
#ifndef MNEME_ENGINE_MODEL_MIXERS_DELTA_H_
#define MNEME_ENGINE_MODEL_MIXERS_DELTA_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/mixers/sequence_mixer.h"

namespace mneme {

// Parts of the state, in this order from the first part.
enum class DeltaPart : int64_t {
  // [heads * head_dim, head_dim]: W, head by head; a session begins with
  // zeros.
  kWeights = 0,
  // [conv_kernel - 1, heads * head_dim]: the last inputs of the q and k
  // convolutions, oldest first. With share_qk only.
  kWindow = 1,
};

// The mixer of a config whose TTT layers have no inner norm. Takes the tensors
// under `prefix`. Errors as Weights.
absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeDelta(
    const BuildContext& context, const std::string& prefix);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MIXERS_DELTA_H_
