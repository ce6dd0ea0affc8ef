// SPDX-License-Identifier: Apache-2.0
//
// Infini-attention: a layer that attends to the tokens of its segment, and
// reads beside them a compressive memory, a matrix per head, to which every
// finished segment is added. A learned gate per query head weighs the two.
// Munkhdalai et al. 2024, "Leave No Context Behind", arXiv:2404.07143,
// equations 6 to 10. What the paper leaves open: the tensors are Llama's, keys
// and values may be shared by query heads (one memory per kv head), positions
// count inside the segment, and the memory sees keys and queries before their
// rotation.
#ifndef MNEME_ENGINE_MODEL_MIXERS_INFINI_H_
#define MNEME_ENGINE_MODEL_MIXERS_INFINI_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/mixers/sequence_mixer.h"

namespace mneme {

// Parts of an Infini-attention state, in this order from its first part. What
// the floats are is in InfiniParams.
enum class InfiniPart : int64_t {
  // [kv_heads * (head_dim + 1), head_dim]: the memories of finished segments.
  kMemory = 0,
  // Up to [segment, token_floats]: keys and values of the open segment.
  kOpen = 1,
};

// Takes the tensors under `prefix`. Errors as Weights.
absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeInfini(
    const BuildContext& context, const std::string& prefix);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MIXERS_INFINI_H_
