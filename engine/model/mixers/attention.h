// SPDX-License-Identifier: Apache-2.0
//
// Softmax attention to a window of the newest tokens, and, if wanted, to the
// first few as attention sinks: the bounded way to run a decoder that was
// trained on attention. A window that is longer than a history is the
// attention it was trained with, and so is a limit, of which the engine sees
// to it that no history exceeds it. Keys are rotated by their absolute
// position, whose angle is taken in double precision, so that a late token is
// rotated as well as an early one. Sinks are seen from where they would be if
// the cache began with them and went on with the window: Xiao et al. 2023,
// "Efficient Streaming Language Models with Attention Sinks",
// arXiv:2309.17453, section 3.2. Instead of being rotated, scores may fall with
// the distance by a slope per head (ALiBi), or positions be none of the
// layer's business.
#ifndef MNEME_ENGINE_MODEL_MIXERS_ATTENTION_H_
#define MNEME_ENGINE_MODEL_MIXERS_ATTENTION_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/mixers/sequence_mixer.h"

namespace mneme {

// Parts of an attention state, in this order from its first part. What the
// floats of a row are is in AttentionParams.
enum class AttentionPart : int64_t {
  kRing = 0,   // [kept, token_floats]
  kSinks = 1,  // up to [sinks, token_floats]; with sinks only
};

// Takes the tensors under `prefix`. Errors as Weights.
absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeAttention(
    const BuildContext& context, const std::string& prefix);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MIXERS_ATTENTION_H_
