// SPDX-License-Identifier: Apache-2.0
#include "engine/tools/parity_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "engine/base/status_macros.h"
#include "engine/text/sampler.h"

namespace mneme {

absl::StatusOr<ParityReader> ParityReader::Make(const Model& model,
                                                ParityPath path) {
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<SessionState> state, model.NewState());
  auto workspace =
      std::make_unique<Workspace>(model.workspace_bytes(model.max_rows()));
  if (!workspace->ok()) {
    return absl::ResourceExhaustedError("workspace: no memory");
  }
  return ParityReader(model, path, std::move(state), std::move(workspace));
}

absl::Status ParityReader::Read(absl::Span<const int32_t> tokens, bool ask) {
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

absl::Status ParityReader::Compute(ComputePath path) {
  const int64_t rows = static_cast<int64_t>(state_->tail().size());
  if (rows == 0) return absl::OkStatus();
  const Workspace::Frame frame(*workspace_);
  const Rows logits = model_->LogitsScratch(path, rows, *workspace_);
  const ModelSlice slice{
      .state = state_.get(), .tokens = state_->tail(), .logits_end = rows};
  MNEME_RETURN_IF_ERROR(
      model_->Forward(path, {slice}, *workspace_, logits, &layers_));
  for (int64_t row = 0; row < rows; ++row) {
    logits_.insert(logits_.end(), logits.row(row),
                   logits.row(row) + logits.cols);
  }
  state_->Commit();
  return absl::OkStatus();
}

absl::Status ParityReader::CommitSegment() {
  const ModelSlice slice{.state = state_.get(), .commit_segment = true};
  MNEME_RETURN_IF_ERROR(
      model_->Forward(ComputePath::kStep, {slice}, *workspace_, Rows()));
  state_->Commit();
  return absl::OkStatus();
}

void LayerRecorder::OnLayer(int64_t layer, ConstRows x) {
  for (int64_t row = 0; row < x.rows; ++row) {
    rows_[layer].insert(rows_[layer].end(), x.row(row), x.row(row) + x.cols);
  }
}

absl::StatusOr<std::vector<int64_t>> ParityCase::Integers(
    const TensorMap& expected, const std::string& name, int64_t min,
    int64_t max) {
  const auto it = expected.find(name);
  if (it == expected.end()) return MalformedTensor(name, "is missing");
  const TensorView& view = it->second;
  if (view.dtype != DType::kI64) return MalformedTensor(name, "want I64");
  std::vector<int64_t> values(view.elements());
  if (values.empty()) return MalformedTensor(name, "is empty");
  std::memcpy(values.data(), view.data, values.size() * 8);
  for (const int64_t value : values) {
    if (value < min || value > max) {
      return MalformedTensor(
          name, absl::StrCat("holds ", value, ", want ", min, " to ", max));
    }
  }
  return values;
}

absl::StatusOr<std::vector<int32_t>> ParityCase::TokenIds(
    const std::string& name) const {
  MNEME_ASSIGN_OR_RETURN(
      const std::vector<int64_t> ids,
      Integers(expected_, name, 0, model_.config().vocab_size - 1));
  return std::vector<int32_t>(ids.begin(), ids.end());
}

// Message sizes for `tokens` tokens, the first of them `prefix` where the
// options leave it open.
std::vector<int64_t> ParityCase::Messages(int64_t tokens,
                                          int64_t prefix) const {
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

absl::StatusOr<ParityReader> ParityCase::ReadAll(absl::Span<const int32_t> ids,
                                                 int64_t prefix) const {
  MNEME_ASSIGN_OR_RETURN(ParityReader reader,
                         ParityReader::Make(model_, options_.path));
  const int64_t count = static_cast<int64_t>(ids.size());
  const int64_t limit = model_.config().token_limit();
  if (limit > 0 && count > limit) {
    return absl::InvalidArgumentError(
        absl::StrCat("a sequence of ", count, " tokens, want at most ", limit,
                     ", the model's limit"));
  }
  int64_t read = 0;
  for (const int64_t size : Messages(count, prefix)) {
    const bool last = read + size == count;
    MNEME_RETURN_IF_ERROR(reader.Read(
        ids.subspan(read, size), last || options_.path == ParityPath::kMixed));
    read += size;
  }
  return reader;
}

absl::Status ParityCase::RunGreedy() {
  MNEME_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt,
                         TokenIds("greedy_prompt_ids"));
  MNEME_ASSIGN_OR_RETURN(const std::vector<int32_t> wanted,
                         TokenIds("greedy_output_ids"));
  MNEME_ASSIGN_OR_RETURN(ParityReader reader,
                         ReadAll(prompt, static_cast<int64_t>(prompt.size())));
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

absl::Status ParityCase::Compare(const std::string& name,
                                 const TensorView& view,
                                 absl::Span<const float> values,
                                 Measure measure) {
  if (view.dtype != DType::kF32 ||
      view.elements() != static_cast<int64_t>(values.size())) {
    return MalformedTensor(
        name, absl::StrCat("is ", std::string(DTypeName(view.dtype)),
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
    line.max_abs = std::max(line.max_abs,
                            difference / (measure == Measure::kRelativeMemory
                                              ? 1 + std::fabs(double{expected})
                                              : 1));
    line.max_rel = std::max(
        line.max_rel, difference / std::max(std::fabs(double{expected}), 1e-3));
  }
  const double tolerance =
      options_.tolerance / (measure == Measure::kOutput ? 1 : 2);
  line.passed = finite && line.max_abs <= tolerance;
  line.tolerance = tolerance;
  lines_.push_back(line);
  Keep(name, view.shape, DType::kF32, values.data());
  return absl::OkStatus();
}

void ParityCase::Keep(const std::string& name, const Shape& shape, DType dtype,
                      const void* data) {
  if (options_.dump.empty()) return;
  Computed& kept = computed_[name];
  kept.shape = shape;
  kept.dtype = dtype;
  const char* bytes = static_cast<const char*>(data);
  kept.bytes.assign(bytes, bytes + ElementCount(shape) * DTypeBytes(dtype));
}

absl::Status ParityCase::Dump() const {
  std::vector<NamedTensor> tensors;
  for (const auto& [name, kept] : computed_) {
    tensors.push_back({.name = name,
                       .view = {.data = kept.bytes.data(),
                                .dtype = kept.dtype,
                                .shape = kept.shape}});
  }
  return WriteSafetensors(options_.dump, tensors);
}

absl::Status MalformedTensor(const std::string& tensor,
                             const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("expected tensor \"", tensor, "\": ", what));
}

}  // namespace mneme
