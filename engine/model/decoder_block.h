// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_DECODER_BLOCK_H_
#define MNEME_ENGINE_MODEL_DECODER_BLOCK_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/model/causal_conv.h"
#include "engine/model/feed_forward.h"
#include "engine/model/mixers/sequence_mixer.h"
#include "engine/model/norm.h"

namespace mneme {

// One layer of a decoder, its norms before its parts or after them:
//
//     x = x + conv(norm(x))     with pre_conv
//     x = x + mixer(norm(x))                x = norm(x + mixer(x))
//     x = x + ffn(norm(x))                  x = norm(x + ffn(x))
//
// Immutable and thread-safe.
class DecoderBlock {
 public:
  // Takes the tensors of layer `layer`. Errors as Weights.
  static absl::StatusOr<DecoderBlock> Make(const BuildContext& context,
                                           int64_t layer);

  const SequenceMixer& mixer() const { return *mixer_; }

  // The mixer's parts, then the convolution's window.
  LayerSpec state_spec() const;
  void InitialiseState(int64_t first_part, SessionState& state) const {
    mixer_->InitialiseState(first_part, state);
  }
  int64_t weight_bytes() const;
  int64_t scratch_bytes(int64_t rows) const;

  // x [rows, model_dim] updated.
  void Forward(const Pass& pass, int64_t first_part, Rows x) const;

 private:
  // What the block does before its mixer, with pre_conv.
  struct PreConv {
    Norm norm;
    CausalConv conv;
    int64_t taps;
    int64_t part;  // of the state, from the block's first
  };

  DecoderBlock(const ModelConfig& config, Norm mixer_norm, Norm ffn_norm,
               FeedForward ffn, std::unique_ptr<const SequenceMixer> mixer)
      : dim_(config.model_dim),
        norm_place_(config.norm_place),
        mixer_norm_(std::move(mixer_norm)),
        ffn_norm_(std::move(ffn_norm)),
        ffn_(std::move(ffn)),
        mixer_(std::move(mixer)) {}

  // x = x + part(norm(x)), or norm(x + part(x)).
  template <typename Part>
  void AddPart(const Pass& pass, const Norm& norm, Rows h, Rows y, Rows x,
               const Part& part) const;

  int64_t dim_;
  NormPlace norm_place_;
  absl::optional<PreConv> pre_conv_;
  Norm mixer_norm_, ffn_norm_;
  FeedForward ffn_;
  std::unique_ptr<const SequenceMixer> mixer_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_DECODER_BLOCK_H_
