// SPDX-License-Identifier: Apache-2.0
#include "engine/tools/parity.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "engine/base/status_macros.h"
#include "engine/model/model.h"
#include "engine/model/safetensors.h"
#include "engine/text/sampler.h"

namespace mneme {
namespace {

absl::Status Malformed(const std::string& tensor, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("expected tensor \"", tensor, "\": ", what));
}

// Feeds tokens to one state by the rules of a path, and keeps the logits of
// every token.
class Reader {
 public:
  static absl::StatusOr<Reader> Make(const Model& model,
                                     const ParityOptions& options) {
    MNEME_ASSIGN_OR_RETURN(std::unique_ptr<SessionState> state,
                           model.NewState());
    auto workspace =
        std::make_unique<Workspace>(model.workspace_bytes(model.max_rows()));
    if (!workspace->ok()) {
      return absl::ResourceExhaustedError("workspace: no memory");
    }
    return Reader(model, options.path, std::move(state), std::move(workspace));
  }

  const SessionState& state() const { return *state_; }
  // [tokens so far, vocab_size]
  const std::vector<float>& logits() const { return logits_; }
  absl::Span<const float> last_logits() const {
    return absl::MakeSpan(logits_).last(model_->config().vocab_size);
  }

  // Takes one message; output is wanted after it if `ask`.
  absl::Status Read(absl::Span<const int32_t> tokens, bool ask) {
    for (const int32_t token : tokens) {
      state_->PushToken(token);
      if (state_->tail_room() == 0) {
        MNEME_RETURN_IF_ERROR(
            Compute(path_ == ParityPath::kStep || state_->stepped()
                        ? ComputePath::kStep
                        : ComputePath::kBlock));
      }
    }
    if (path_ == ParityPath::kStep) return Compute(ComputePath::kStep);
    if (!ask) return absl::OkStatus();
    if (path_ == ParityPath::kBlock) return Compute(ComputePath::kBlock);
    state_->Ask();
    return Compute(ComputePath::kStep);
  }

 private:
  Reader(const Model& model, ParityPath path,
         std::unique_ptr<SessionState> state,
         std::unique_ptr<Workspace> workspace)
      : model_(&model),
        path_(path),
        state_(std::move(state)),
        workspace_(std::move(workspace)) {}

  // Computes the tail.
  absl::Status Compute(ComputePath path) {
    const int64_t rows = static_cast<int64_t>(state_->tail().size());
    if (rows == 0) return absl::OkStatus();
    const Workspace::Frame frame(*workspace_);
    const Rows logits = model_->LogitsScratch(path, rows, *workspace_);
    const ModelSlice slice{
        .state = state_.get(), .tokens = state_->tail(), .logits_end = rows};
    MNEME_RETURN_IF_ERROR(model_->Forward(path, {slice}, *workspace_, logits));
    for (int64_t row = 0; row < rows; ++row) {
      logits_.insert(logits_.end(), logits.row(row),
                     logits.row(row) + logits.cols);
    }
    state_->Commit();
    return absl::OkStatus();
  }

  const Model* model_;
  ParityPath path_;
  std::unique_ptr<SessionState> state_;
  std::unique_ptr<Workspace> workspace_;
  std::vector<float> logits_;
};

// The official cache as seen through ours. `before` is the state one token
// earlier: its convolution windows hold the oldest of the k inputs that the
// official ones keep, where ours keep k - 1.
class OfficialState {
 public:
  OfficialState(const Model& model, const SessionState& now,
                const SessionState& before)
      : config_(model.config()),
        sizes_{.inner = config_.ttt_layer_type == "mlp" ? TttInner::kMlp
                                                        : TttInner::kLinear,
               .heads = config_.heads,
               .head_dim = config_.head_dim()},
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

class ParityRun {
 public:
  ParityRun(const Model& model, const TensorMap& expected,
            const ParityOptions& options)
      : model_(model), expected_(expected), options_(options) {}

  absl::Status Run() {
    for (const auto& [name, view] : expected_) {
      if (!absl::StartsWith(name, "input_ids.len")) continue;
      MNEME_RETURN_IF_ERROR(
          RunLength(name.substr(std::string("input_ids.").size())));
    }
    if (expected_.count("greedy_prompt_ids") != 0) {
      MNEME_RETURN_IF_ERROR(RunGreedy());
    }
    if (lines_.empty()) {
      return absl::InvalidArgumentError(
          "expected.safetensors holds nothing to compare with");
    }
    return options_.dump.empty() ? absl::OkStatus() : Dump();
  }

  std::vector<ParityLine> TakeLines() { return std::move(lines_); }

 private:
  struct Computed {
    Shape shape;
    DType dtype;
    std::vector<char> bytes;
  };

  absl::StatusOr<std::vector<int32_t>> TokenIds(const std::string& name) const {
    const auto it = expected_.find(name);
    if (it == expected_.end()) return Malformed(name, "is missing");
    const TensorView& view = it->second;
    if (view.dtype != DType::kI64 || view.shape.size() != 1) {
      return Malformed(name, "want I64 of one dimension");
    }
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < view.elements(); ++i) {
      int64_t id;
      std::memcpy(&id, static_cast<const char*>(view.data) + i * 8, 8);
      if (id < 0 || id >= model_.config().vocab_size) {
        return Malformed(name, absl::StrCat("holds ", id, ", want 0 to ",
                                            model_.config().vocab_size - 1));
      }
      ids.push_back(static_cast<int32_t>(id));
    }
    return ids;
  }

  // Message sizes for `tokens` tokens, the first of them `prefix` where the
  // options leave it open.
  std::vector<int64_t> Messages(int64_t tokens, int64_t prefix) const {
    std::vector<int64_t> sizes;
    for (int64_t taken = 0, i = 0; taken < tokens; ++i) {
      int64_t size = tokens;
      if (!options_.cuts.empty()) {
        size = options_.cuts[i % options_.cuts.size()];
      } else if (options_.path == ParityPath::kMixed) {
        size = i == 0 ? prefix : 1;
      }
      size = std::clamp<int64_t>(size, 1, tokens - taken);
      sizes.push_back(size);
      taken += size;
    }
    return sizes;
  }

  absl::StatusOr<Reader> ReadAll(absl::Span<const int32_t> ids,
                                 int64_t prefix) const {
    MNEME_ASSIGN_OR_RETURN(Reader reader, Reader::Make(model_, options_));
    const int64_t count = static_cast<int64_t>(ids.size());
    int64_t read = 0;
    for (const int64_t size : Messages(count, prefix)) {
      const bool last = read + size == count;
      MNEME_RETURN_IF_ERROR(
          reader.Read(ids.subspan(read, size),
                      last || options_.path == ParityPath::kMixed));
      read += size;
    }
    return reader;
  }

  absl::Status RunLength(const std::string& length) {
    MNEME_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                           TokenIds("input_ids." + length));
    if (ids.empty()) return Malformed("input_ids." + length, "is empty");
    int64_t prefix = 1;
    if (expected_.count("prefix_len." + length) != 0) {
      // A length, which is one of the vocabulary's size at most by chance;
      // read as a number all the same.
      const TensorView& view = expected_.at("prefix_len." + length);
      if (view.dtype != DType::kI64 || view.elements() != 1) {
        return Malformed("prefix_len." + length, "want one I64");
      }
      std::memcpy(&prefix, view.data, 8);
    }
    MNEME_ASSIGN_OR_RETURN(const Reader reader, ReadAll(ids, prefix));
    MNEME_ASSIGN_OR_RETURN(
        const Reader before,
        ReadAll(absl::MakeSpan(ids).first(ids.size() - 1), prefix));
    const OfficialState official(model_, reader.state(), before.state());
    for (const auto& [name, view] : expected_) {
      const std::vector<std::string> parts = absl::StrSplit(name, '.');
      if (parts.size() < 2 || parts[1] != length) continue;
      if (parts[0] == "logits_prefill" || parts[0] == "logits_decode") {
        MNEME_RETURN_IF_ERROR(Compare(name, view, reader.logits()));
      } else if (parts[0] == "state") {
        int64_t layer = -1;
        if (parts.size() < 5 || parts[2] != "layers" ||
            !absl::SimpleAtoi(parts[3], &layer)) {
          return Malformed(name, "want state.lenL.layers.I.NAME");
        }
        const std::string prefix_text =
            absl::StrCat("state.", length, ".layers.", layer, ".");
        absl::StatusOr<std::vector<float>> values =
            official.Get(layer, name.substr(prefix_text.size()));
        if (!values.ok()) {
          return Malformed(name, std::string(values.status().message()));
        }
        MNEME_RETURN_IF_ERROR(Compare(name, view, *values));
      }
    }
    return absl::OkStatus();
  }

  absl::Status RunGreedy() {
    MNEME_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt,
                           TokenIds("greedy_prompt_ids"));
    MNEME_ASSIGN_OR_RETURN(const std::vector<int32_t> wanted,
                           TokenIds("greedy_output_ids"));
    if (prompt.empty()) return Malformed("greedy_prompt_ids", "is empty");
    MNEME_ASSIGN_OR_RETURN(
        Reader reader, ReadAll(prompt, static_cast<int64_t>(prompt.size())));
    std::vector<int64_t> said;
    const int64_t vocab_size = model_.config().vocab_size;
    Sampler sampler({.temperature = 0.0f}, vocab_size, {});
    while (said.size() < wanted.size()) {
      const absl::optional<int32_t> token =
          sampler.Sample(reader.last_logits(), {}, reader.state().position());
      if (!token.has_value()) {
        return absl::InternalError("greedy: no finite logit");
      }
      said.push_back(*token);
      MNEME_RETURN_IF_ERROR(reader.Read({*token}, /*ask=*/true));
    }
    ParityLine line{.tensor = "greedy_output_ids",
                    .shape = absl::StrCat("[", wanted.size(), "]"),
                    .passed = true};
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (said[i] != wanted[i]) {  // counted, not measured
        line.max_abs += 1;
        line.passed = false;
      }
    }
    lines_.push_back(line);
    Keep(line.tensor, {static_cast<int64_t>(said.size())}, DType::kI64,
         said.data());
    return absl::OkStatus();
  }

  absl::Status Compare(const std::string& name, const TensorView& view,
                       absl::Span<const float> values) {
    if (view.dtype != DType::kF32 ||
        view.elements() != static_cast<int64_t>(values.size())) {
      return Malformed(name,
                       absl::StrCat("is ", std::string(DTypeName(view.dtype)),
                                    ShapeString(view.shape), ", computed were ",
                                    values.size(), " F32 values"));
    }
    ParityLine line{.tensor = name, .shape = ShapeString(view.shape)};
    bool finite = true;
    for (size_t i = 0; i < values.size(); ++i) {
      float expected;
      std::memcpy(&expected, static_cast<const char*>(view.data) + i * 4, 4);
      const double difference = std::fabs(double{values[i]} - expected);
      finite = finite && std::isfinite(difference);
      line.max_abs = std::max(line.max_abs, difference);
      line.max_rel =
          std::max(line.max_rel,
                   difference / std::max(std::fabs(double{expected}), 1e-3));
    }
    line.passed = finite && line.max_abs <= options_.tolerance;
    lines_.push_back(line);
    Keep(name, view.shape, DType::kF32, values.data());
    return absl::OkStatus();
  }

  void Keep(const std::string& name, const Shape& shape, DType dtype,
            const void* data) {
    if (options_.dump.empty()) return;
    Computed& kept = computed_[name];
    kept.shape = shape;
    kept.dtype = dtype;
    const char* bytes = static_cast<const char*>(data);
    kept.bytes.assign(bytes, bytes + ElementCount(shape) * DTypeBytes(dtype));
  }

  absl::Status Dump() const {
    std::vector<NamedTensor> tensors;
    for (const auto& [name, kept] : computed_) {
      tensors.push_back({.name = name,
                         .view = {.data = kept.bytes.data(),
                                  .dtype = kept.dtype,
                                  .shape = kept.shape}});
    }
    return WriteSafetensors(options_.dump, tensors);
  }

  const Model& model_;
  const TensorMap& expected_;
  const ParityOptions& options_;
  std::vector<ParityLine> lines_;
  std::map<std::string, Computed> computed_;
};

}  // namespace

absl::StatusOr<std::vector<ParityLine>> RunParity(
    const std::string& case_directory, const ParityOptions& options,
    Backend& backend) {
  MNEME_ASSIGN_OR_RETURN(
      const std::shared_ptr<const Model> model,
      Model::Load(case_directory, {.block_tokens = options.block_tokens},
                  &backend));
  MNEME_ASSIGN_OR_RETURN(
      const std::unique_ptr<SafetensorsFile> expected,
      SafetensorsFile::Open(case_directory + "/expected.safetensors"));
  ParityRun run(*model, expected->tensors(), options);
  MNEME_RETURN_IF_ERROR(run.Run());
  return run.TakeLines();
}

}  // namespace mneme
