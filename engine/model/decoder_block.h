// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_DECODER_BLOCK_H_
#define MNEME_ENGINE_MODEL_DECODER_BLOCK_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/model/causal_conv.h"
#include "engine/model/mixers/sequence_mixer.h"

namespace mneme {

// One pre-norm layer of a decoder:
//
//     x = x + conv(rms(x))              with pre_conv
//     x = x + mixer(rms(x))
//     x = x + down(silu(gate h) * up h),   h = rms(x)
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
  DecoderBlock() = default;

  void FeedForward(const Pass& pass, Rows h, Rows x) const;

  int64_t dim_ = 0;
  int64_t ffn_dim_ = 0;
  int64_t conv_kernel_ = 0;
  float norm_eps_ = 0;
  Tensor conv_norm_;                 // [model_dim]; with pre_conv
  absl::optional<CausalConv> conv_;  // with pre_conv
  Tensor seq_norm_, ffn_norm_;       // [model_dim]
  std::unique_ptr<const SequenceMixer> mixer_;
  int64_t mixer_parts_ = 0;                  // of the state
  std::unique_ptr<const Matrix> gate_, up_;  // [ffn_dim, model_dim]
  std::unique_ptr<const Matrix> down_;       // [model_dim, ffn_dim]
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_DECODER_BLOCK_H_
