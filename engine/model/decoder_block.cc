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
  const std::string prefix = absl::StrCat("model.layers.", layer, ".");
  MNEME_ASSIGN_OR_RETURN(Norm mixer_norm,
                         Norm::Take(context, prefix + "input_layernorm"));
  MNEME_ASSIGN_OR_RETURN(
      Norm ffn_norm, Norm::Take(context, prefix + "post_attention_layernorm"));
  MNEME_ASSIGN_OR_RETURN(FeedForward ffn,
                         FeedForward::Take(context, prefix + "mlp."));
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<const SequenceMixer> mixer,
                         MakeMixer(context, layer));
  DecoderBlock block(config, std::move(mixer_norm), std::move(ffn_norm),
                     std::move(ffn), std::move(mixer));
  if (config.pre_conv) {
    MNEME_ASSIGN_OR_RETURN(Norm norm,
                           Norm::Take(context, prefix + "conv.norm"));
    MNEME_ASSIGN_OR_RETURN(
        CausalConv conv,
        CausalConv::Take(prefix + "conv.conv", config.model_dim,
                         config.conv_kernel, context.weights));
    block.pre_conv_ =
        PreConv{std::move(norm), std::move(conv), config.conv_kernel,
                static_cast<int64_t>(block.mixer_->state_spec().size())};
  }
  return block;
}

LayerSpec DecoderBlock::state_spec() const {
  LayerSpec spec = mixer_->state_spec();
  if (pre_conv_.has_value()) {
    spec.push_back(CausalConv::WindowSpec("conv", dim_, pre_conv_->taps));
  }
  return spec;
}

int64_t DecoderBlock::weight_bytes() const {
  return mixer_->weight_bytes() + ffn_.weight_bytes();
}

int64_t DecoderBlock::scratch_bytes(int64_t rows) const {
  return 2 * Pass::ScratchBytes(rows, dim_) +
         std::max(mixer_->scratch_bytes(rows), ffn_.scratch_bytes(rows));
}

template <typename Part>
void DecoderBlock::AddPart(const Pass& pass, const Norm& norm, Rows h, Rows y,
                           Rows x, const Part& part) const {
  if (norm_place_ == NormPlace::kAfter) {
    part(x, y);
    pass.backend.Accumulate(y, x);
    norm.Forward(pass.backend, x, x);
  } else {
    norm.Forward(pass.backend, x, h);
    part(h, y);
    pass.backend.Accumulate(y, x);
  }
}

void DecoderBlock::Forward(const Pass& pass, int64_t first_part, Rows x) const {
  const Workspace::Frame frame(pass.workspace);
  Rows h = pass.Scratch(dim_);
  Rows y = pass.Scratch(dim_);
  if (pre_conv_.has_value()) {
    AddPart(pass, pre_conv_->norm, h, y, x, [&](ConstRows from, Rows to) {
      pre_conv_->conv.Forward(pass, first_part + pre_conv_->part,
                              CausalConv::Window::kAdvance, from, to);
    });
  }
  AddPart(pass, mixer_norm_, h, y, x, [&](ConstRows from, Rows to) {
    mixer_->Forward(pass, first_part, from, to);
  });
  AddPart(pass, ffn_norm_, h, y, x,
          [&](ConstRows from, Rows to) { ffn_.Forward(pass, from, to); });
}

}  // namespace mneme
