// SPDX-License-Identifier: Apache-2.0
//
// What the runs of all kinds of reference cases share: reading tokens by a
// path, and comparing.
#ifndef MNEME_ENGINE_TOOLS_PARITY_CASE_H_
#define MNEME_ENGINE_TOOLS_PARITY_CASE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/model/model.h"
#include "engine/model/safetensors.h"
#include "engine/tools/parity.h"

namespace mneme {

// Keeps what every layer read, and what logits were made of.
class LayerRecorder final : public ForwardProbe {
 public:
  explicit LayerRecorder(int64_t layers) : rows_(layers + 1) {}

  void OnLayer(int64_t layer, ConstRows x) override;
  // [tokens so far, model_dim]
  const std::vector<float>& rows(int64_t layer) const { return rows_[layer]; }

 private:
  std::vector<std::vector<float>> rows_;  // per layer
};

// Feeds tokens to one state by the rules of a path, and keeps the logits of
// every token.
class ParityReader {
 public:
  static absl::StatusOr<ParityReader> Make(const Model& model, ParityPath path);

  const SessionState& state() const { return *state_; }
  // [tokens so far, vocab_size]
  const std::vector<float>& logits() const { return logits_; }
  const LayerRecorder& layers() const { return layers_; }
  absl::Span<const float> last_logits() const {
    return absl::MakeSpan(logits_).last(model_->config().vocab_size);
  }

  // Takes one message; output is wanted after it if `ask`.
  absl::Status Read(absl::Span<const int32_t> tokens, bool ask);

  // REQUIRES: the tail is computed.
  absl::Status CommitSegment();

 private:
  ParityReader(const Model& model, ParityPath path,
               std::unique_ptr<SessionState> state,
               std::unique_ptr<Workspace> workspace)
      : model_(&model),
        path_(path),
        state_(std::move(state)),
        workspace_(std::move(workspace)),
        layers_(model.config().layers) {}

  // Computes the tail.
  absl::Status Compute(ComputePath path);

  const Model* model_;
  ParityPath path_;
  std::unique_ptr<SessionState> state_;
  std::unique_ptr<Workspace> workspace_;
  LayerRecorder layers_;
  std::vector<float> logits_;
};

// One case on its way to a result.
class ParityCase {
 public:
  ParityCase(const Model& model, const TensorMap& expected,
             const ParityOptions& options)
      : model_(model), expected_(expected), options_(options) {}

  const Model& model() const { return model_; }
  const ParityOptions& options() const { return options_; }
  const TensorMap& expected() const { return expected_; }

  // The token ids of an I64 tensor, row after row. INVALID_ARGUMENT if it is
  // missing, or is none.
  absl::StatusOr<std::vector<int32_t>> TokenIds(const std::string& name) const;
  // The numbers of an I64 tensor, each from `min` to `max`. Errors likewise.
  static absl::StatusOr<std::vector<int64_t>> Integers(
      const TensorMap& expected, const std::string& name, int64_t min,
      int64_t max);

  // A state that has read `ids`, in messages as the options say; where they
  // leave it open, kMixed takes `prefix` tokens at first.
  absl::StatusOr<ParityReader> ReadAll(absl::Span<const int32_t> ids,
                                       int64_t prefix) const;

  // What is held against ParityOptions::tolerance.
  enum class Measure {
    kOutput,          // |difference|
    kMemory,          // 2 |difference|
    kRelativeMemory,  // 2 |difference| / (1 + |expected|)
  };

  // Compares a tensor with what was computed of it. INVALID_ARGUMENT if it has
  // another size.
  absl::Status Compare(const std::string& name, const TensorView& view,
                       absl::Span<const float> values,
                       Measure measure = Measure::kOutput);

  // Reads greedy_prompt_ids and compares what is said then.
  absl::Status RunGreedy();

  std::vector<ParityLine> TakeLines() { return std::move(lines_); }
  bool compared() const { return !lines_.empty(); }

  // Writes what was computed to options().dump.
  absl::Status Dump() const;

 private:
  struct Computed {
    Shape shape;
    DType dtype;
    std::vector<char> bytes;
  };

  std::vector<int64_t> Messages(int64_t tokens, int64_t prefix) const;
  void Keep(const std::string& name, const Shape& shape, DType dtype,
            const void* data);

  const Model& model_;
  const TensorMap& expected_;
  const ParityOptions& options_;
  std::vector<ParityLine> lines_;
  std::map<std::string, Computed> computed_;
};

// INVALID_ARGUMENT for an expected tensor that is not as a case has it.
absl::Status MalformedTensor(const std::string& tensor,
                             const std::string& what);

// The kinds of cases, as parity.h lays them out.
absl::Status RunTttCase(ParityCase& run);
absl::Status RunSequencesCase(ParityCase& run);
absl::Status RunTransformerXlCase(ParityCase& run);

}  // namespace mneme

#endif  // MNEME_ENGINE_TOOLS_PARITY_CASE_H_
