// SPDX-License-Identifier: Apache-2.0
#include "engine/model/families/family.h"

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/check.h"

namespace mneme {

absl::Span<const Family* const> AllFamilies() {
  static constexpr const Family* kFamilies[] = {
      &kTttFamily,   &kInfiniLlamaFamily, &kLlamaFamily,    &kMistralFamily,
      &kQwen2Family, &kQwen3Family,       &kTransfoXlFamily};
  return kFamilies;
}

const Family& FamilyOf(const ModelConfig& config) {
  for (const Family* family : AllFamilies()) {
    if (config.model_type == family->model_type) return *family;
  }
  MNEME_CHECK(false);
}

absl::optional<LayerTensor> ParseLayerTensor(const std::string& name) {
  absl::string_view rest = name;
  LayerTensor tensor;
  if (!absl::ConsumePrefix(&rest, "model.layers.")) return absl::nullopt;
  const size_t dot = rest.find('.');
  if (dot == absl::string_view::npos ||
      !absl::SimpleAtoi(rest.substr(0, dot), &tensor.layer)) {
    return absl::nullopt;
  }
  tensor.rest = std::string(rest.substr(dot + 1));
  return tensor;
}

}  // namespace mneme
