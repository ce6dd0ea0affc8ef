// SPDX-License-Identifier: Apache-2.0
#include "engine/model/decoder_block.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/mixers/registry.h"

namespace mneme {

absl::StatusOr<DecoderBlock> DecoderBlock::Make(const BuildContext& context,
                                                int64_t layer) {
  const ModelConfig& config = context.config;
  Weights& weights = context.weights;
  const std::string prefix = absl::StrCat("model.layers.", layer, ".");
  const Shape vector = {config.model_dim};
  const Shape widen = {config.ffn_dim, config.model_dim};
  const Shape narrow = {config.model_dim, config.ffn_dim};

  DecoderBlock block;
  block.dim_ = config.model_dim;
  block.ffn_dim_ = config.ffn_dim;
  block.conv_kernel_ = config.conv_kernel;
  block.norm_eps_ = config.rms_norm_eps;
  if (config.pre_conv) {
    MNEME_ASSIGN_OR_RETURN(
        block.conv_norm_,
        weights.TakeTensor(prefix + "conv.norm.weight", vector));
    MNEME_ASSIGN_OR_RETURN(
        block.conv_, CausalConv::Take(prefix + "conv.conv", config.model_dim,
                                      config.conv_kernel, weights));
  }
  MNEME_ASSIGN_OR_RETURN(
      block.seq_norm_,
      weights.TakeTensor(absl::StrCat(prefix, config.names.mixer_norm),
                         vector));
  MNEME_ASSIGN_OR_RETURN(
      block.ffn_norm_,
      weights.TakeTensor(absl::StrCat(prefix, config.names.ffn_norm), vector));
  MNEME_ASSIGN_OR_RETURN(block.mixer_, MakeMixer(context, layer));
  block.mixer_parts_ = static_cast<int64_t>(block.mixer_->state_spec().size());
  MNEME_ASSIGN_OR_RETURN(
      block.gate_, weights.TakeMatrix(prefix + "mlp.gate_proj.weight", widen,
                                      context.backend));
  MNEME_ASSIGN_OR_RETURN(
      block.up_, weights.TakeMatrix(prefix + "mlp.up_proj.weight", widen,
                                    context.backend));
  MNEME_ASSIGN_OR_RETURN(
      block.down_, weights.TakeMatrix(prefix + "mlp.down_proj.weight", narrow,
                                      context.backend));
  return block;
}

LayerSpec DecoderBlock::state_spec() const {
  LayerSpec spec = mixer_->state_spec();
  if (conv_.has_value()) {
    spec.push_back(CausalConv::WindowSpec("conv", dim_, conv_kernel_));
  }
  return spec;
}

int64_t DecoderBlock::weight_bytes() const {
  return mixer_->weight_bytes() + gate_->bytes() + up_->bytes() +
         down_->bytes();
}

int64_t DecoderBlock::scratch_bytes(int64_t rows) const {
  return 2 * Pass::ScratchBytes(rows, dim_) +
         std::max(mixer_->scratch_bytes(rows),
                  2 * Pass::ScratchBytes(rows, ffn_dim_));
}

void DecoderBlock::Forward(const Pass& pass, int64_t first_part, Rows x) const {
  const Workspace::Frame frame(pass.workspace);
  Backend& backend = pass.backend;
  Rows h = pass.Scratch(dim_);
  Rows y = pass.Scratch(dim_);
  if (conv_.has_value()) {
    backend.RmsNorm(x, conv_norm_.values(), norm_eps_, h);
    conv_->Forward(pass, first_part + mixer_parts_,
                   CausalConv::Window::kAdvance, h, y);
    backend.Accumulate(y, x);
  }
  backend.RmsNorm(x, seq_norm_.values(), norm_eps_, h);
  mixer_->Forward(pass, first_part, h, y);
  backend.Accumulate(y, x);
  FeedForward(pass, h, x);
}

void DecoderBlock::FeedForward(const Pass& pass, Rows h, Rows x) const {
  Backend& backend = pass.backend;
  Rows gate = pass.Scratch(ffn_dim_);
  Rows up = pass.Scratch(ffn_dim_);
  backend.RmsNorm(x, ffn_norm_.values(), norm_eps_, h);
  backend.Matmul(pass.path, *gate_, h, gate);
  backend.Matmul(pass.path, *up_, h, up);
  backend.SiluMul(up, gate);
  backend.Matmul(pass.path, *down_, gate, h);
  backend.Accumulate(h, x);
}

}  // namespace mneme
