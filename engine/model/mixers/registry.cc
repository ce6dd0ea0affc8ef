// SPDX-License-Identifier: Apache-2.0
#include "engine/model/mixers/registry.h"

#include "absl/strings/str_cat.h"
#include "engine/model/mixers/attention.h"
#include "engine/model/mixers/delta.h"
#include "engine/model/mixers/infini.h"
#include "engine/model/mixers/relative_attention.h"
#include "engine/model/mixers/ttt.h"

namespace mneme {

absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeMixer(
    const BuildContext& context, int64_t layer) {
  const std::string layer_prefix = absl::StrCat("model.layers.", layer, ".");
  const std::string prefix = layer_prefix + "self_attn.";
  switch (context.config.mixer(layer)) {
    case MixerType::kTtt:
      return MakeTtt(context, prefix);
    case MixerType::kDelta:
      return MakeDelta(context, prefix);
    case MixerType::kInfini:
      return MakeInfini(context, prefix);
    case MixerType::kAttention:
      return MakeAttention(context, prefix);
    case MixerType::kRelativeAttention:
      return MakeRelativeAttention(context, prefix,
                                   layer_prefix + "input_layernorm");
  }
  return absl::InternalError("no such mixer");
}

}  // namespace mneme
