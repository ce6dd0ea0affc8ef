// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "engine/tools/parity_case.h"

namespace mneme {
namespace {

// The official cache as seen through ours. `before` is the state one token
// earlier: its convolution windows hold the oldest of the k inputs that the
// official ones keep, where ours keep k - 1.
class OfficialState {
 public:
  OfficialState(const Model& model, const SessionState& now,
                const SessionState& before)
      : config_(model.config()),
        sizes_{.inner = config_.ttt.layer_type == "mlp" ? TttInner::kMlp
                                                        : TttInner::kLinear,
               .heads = config_.ttt_heads(),
               .head_dim = config_.ttt_head_dim()},
        now_(now),
        before_(before) {}

  absl::StatusOr<std::vector<float>> Get(int64_t layer,
                                         std::string_view name) const {
    for (int64_t map = 0; map < sizes_.maps(); ++map) {
      const std::string w = absl::StrCat("W", map + 1);
      const std::string b = absl::StrCat("b", map + 1);
      if (name == w + "_states") return Inner(layer, {map, Cells::kWeights});
      if (name == b + "_states") return Inner(layer, {map, Cells::kBias});
      if (name == w + "_grad") return Gradient(layer, {map, Cells::kWeights});
      if (name == b + "_grad") return Gradient(layer, {map, Cells::kBias});
    }
    if (name == "conv.pre_conv") return Window(layer, "conv");
    if (name == "conv.ttt_conv_q" || name == "conv.ttt_conv_k") {
      return Window(layer, "window");
    }
    return absl::InvalidArgumentError("no such state is known");
  }

 private:
  enum class Cells { kWeights, kBias };
  // W or b of one of the inner model's maps.
  struct Choice {
    int64_t map = 0;
    Cells cells = Cells::kWeights;
  };

  absl::StatusOr<int64_t> Part(int64_t layer, std::string_view name) const {
    const StateLayout& layout = now_.layout();
    if (layer < 0 || layer >= config_.layers) {
      return absl::InvalidArgumentError("no such layer");
    }
    const LayerSpec& spec = layout.spec().layers[layer];
    for (size_t i = 0; i < spec.size(); ++i) {
      if (spec[i].name == name) {
        return layout.first_part(layer) + static_cast<int64_t>(i);
      }
    }
    return absl::InvalidArgumentError("this layer keeps no such state");
  }

  // The chosen cells of every head of a [heads, weight_floats] array.
  std::vector<float> Select(const float* joined, Choice choice) const {
    std::vector<float> out;
    for (int64_t head = 0; head < sizes_.heads; ++head) {
      for (int64_t map = 0; map < sizes_.maps(); ++map) {
        const int64_t out_dim = sizes_.out_dim(map);
        const float* bias = joined + sizes_.in_dim(map) * out_dim;
        const float* end = bias + out_dim;
        if (map == choice.map) {
          const bool weights = choice.cells == Cells::kWeights;
          out.insert(out.end(), weights ? joined : bias, weights ? bias : end);
        }
        joined = end;
      }
    }
    return out;
  }

  absl::StatusOr<std::vector<float>> Inner(int64_t layer, Choice choice) const {
    MNEME_ASSIGN_OR_RETURN(const int64_t part, Part(layer, "weights"));
    return Select(now_.contents(part), choice);
  }

  // The sum of lr * gradient over the open mini-batch, from its factors.
  absl::StatusOr<std::vector<float>> Gradient(int64_t layer,
                                              Choice choice) const {
    MNEME_ASSIGN_OR_RETURN(const int64_t part, Part(layer, "factors"));
    std::vector<float> joined(sizes_.heads * sizes_.weight_floats(), 0.0f);
    const float* factor = now_.contents(part);
    for (int64_t row = 0; row < now_.rows(part); ++row) {
      float* sum = joined.data();
      for (int64_t head = 0; head < sizes_.heads; ++head) {
        for (int64_t map = 0; map < sizes_.maps(); ++map) {
          const int64_t in = sizes_.in_dim(map);
          const int64_t out = sizes_.out_dim(map);
          const float* x = factor;
          const float* u = factor + in;
          for (int64_t i = 0; i <= in; ++i) {
            const float input = i < in ? x[i] : 1.0f;
            for (int64_t j = 0; j < out; ++j) *sum++ += input * u[j];
          }
          factor += in + out;
        }
      }
    }
    return Select(joined.data(), choice);
  }

  // [channels, k], oldest first.
  absl::StatusOr<std::vector<float>> Window(int64_t layer,
                                            std::string_view name) const {
    MNEME_ASSIGN_OR_RETURN(const int64_t part, Part(layer, name));
    const int64_t channels = config_.model_dim;
    const int64_t taps = config_.conv_kernel;
    std::vector<float> out;
    for (int64_t c = 0; c < channels; ++c) {
      if (taps > 1) out.push_back(before_.contents(part)[c]);
      for (int64_t j = 0; j + 1 < taps; ++j) {
        out.push_back(now_.contents(part)[j * channels + c]);
      }
    }
    return out;
  }

  const ModelConfig& config_;
  const TttParams sizes_;
  const SessionState& now_;
  const SessionState& before_;
};

absl::Status RunLength(const std::string& length, ParityCase& run) {
  MNEME_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                         run.TokenIds("input_ids." + length));
  int64_t prefix = 1;
  if (run.expected().count("prefix_len." + length) != 0) {
    // A length, which is one of the vocabulary's size at most by chance;
    // read as a number all the same.
    const TensorView& view = run.expected().at("prefix_len." + length);
    if (view.dtype != DType::kI64 || view.elements() != 1) {
      return MalformedTensor("prefix_len." + length, "want one I64");
    }
    std::memcpy(&prefix, view.data, 8);
  }
  MNEME_ASSIGN_OR_RETURN(const ParityReader reader, run.ReadAll(ids, prefix));
  MNEME_ASSIGN_OR_RETURN(
      const ParityReader before,
      run.ReadAll(absl::MakeSpan(ids).first(ids.size() - 1), prefix));
  const OfficialState official(run.model(), reader.state(), before.state());
  for (const auto& [name, view] : run.expected()) {
    const std::vector<std::string> parts = absl::StrSplit(name, '.');
    if (parts.size() < 2 || parts[1] != length) continue;
    if (parts[0] == "logits_prefill" || parts[0] == "logits_decode") {
      MNEME_RETURN_IF_ERROR(run.Compare(name, view, reader.logits()));
    } else if (parts[0] == "state") {
      int64_t layer = -1;
      if (parts.size() < 5 || parts[2] != "layers" ||
          !absl::SimpleAtoi(parts[3], &layer)) {
        return MalformedTensor(name, "want state.lenL.layers.I.NAME");
      }
      const std::string prefix_text =
          absl::StrCat("state.", length, ".layers.", layer, ".");
      absl::StatusOr<std::vector<float>> values =
          official.Get(layer, name.substr(prefix_text.size()));
      if (!values.ok()) {
        return MalformedTensor(name, std::string(values.status().message()));
      }
      MNEME_RETURN_IF_ERROR(run.Compare(name, view, *values));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunTttCase(ParityCase& run) {
  for (const auto& [name, view] : run.expected()) {
    if (!absl::StartsWith(name, "input_ids.len")) continue;
    MNEME_RETURN_IF_ERROR(
        RunLength(name.substr(std::string("input_ids.").size()), run));
  }
  if (run.expected().count("greedy_prompt_ids") == 0) return absl::OkStatus();
  return run.RunGreedy();
}

}  // namespace mneme
