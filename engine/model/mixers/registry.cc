// SPDX-License-Identifier: Apache-2.0
#include "engine/model/mixers/registry.h"

#include "absl/strings/str_cat.h"
#include "engine/model/mixers/attention.h"
#include "engine/model/mixers/infini.h"
#include "engine/model/mixers/ttt.h"

namespace mneme {

absl::StatusOr<std::unique_ptr<const SequenceMixer>> MakeMixer(
    const BuildContext& context, int64_t layer) {
  const std::string prefix =
      absl::StrCat("model.layers.", layer, ".", context.config.names.mixer);
  switch (context.config.mixer) {
    case MixerType::kTtt:
      return MakeTtt(context, prefix);
    case MixerType::kInfini:
      return MakeInfini(context, prefix);
    case MixerType::kAttention:
      return MakeAttention(context, prefix);
  }
  return absl::InternalError("no such mixer");
}

}  // namespace mneme
