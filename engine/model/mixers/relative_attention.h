// SPDX-License-Identifier: Apache-2.0
//
// Transformer-XL's attention: tokens see those of their segment and a memory
// of older ones, and a score depends on how far the key is behind, by a vector
// per distance that follows from sines and cosines and a learned map.
// Dai et al. 2019, arXiv:1901.02860, sections 3.2 and 3.3; the clamped
// distances, the mask of the same length and the tensors as in the authors'
// code and the Hugging Face model. One departure: the memory holds keys and
// values instead of the hidden states that they follow from, which is the same
// because keys know nothing of their positions.
#ifndef MNEME_ENGINE_MODEL_MIXERS_RELATIVE_ATTENTION_H_
#define MNEME_ENGINE_MODEL_MIXERS_RELATIVE_ATTENTION_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/mixers/sequence_mixer.h"

namespace mneme {

// The state of a layer is one part, a ring of keys and values, as
// AttentionParams says.
//
// Takes the tensors under `prefix`, and the bias of `norm`, which stands
// before the layer or after it. Errors as Weights.
absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeRelativeAttention(
    const BuildContext& context, const std::string& prefix,
    const std::string& norm);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MIXERS_RELATIVE_ATTENTION_H_
