// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "engine/base/status_macros.h"
#include "engine/model/mixers/infini.h"
#include "engine/tools/parity_case.h"

namespace mneme {
namespace {

// What the layers of each sequence remember: M, or z, of shape
// [layers, sequences, kv_heads, ...].
std::vector<float> Memories(const Model& model,
                            const std::vector<ParityReader>& readers,
                            bool matrix) {
  const InfiniConfig& config = model.config().infini;
  const int64_t dim = config.head_dim;
  std::vector<float> values;
  for (int64_t layer = 0; layer < model.config().layers; ++layer) {
    const int64_t part =
        model.layout()->first_part(layer) + int64_t(InfiniPart::kMemory);
    for (const ParityReader& reader : readers) {
      const float* head = reader.state().contents(part);
      for (int64_t i = 0; i < config.kv_heads; ++i) {
        const float* z = head + dim * dim;
        values.insert(values.end(), matrix ? head : z, matrix ? z : z + dim);
        head = z + dim;
      }
    }
  }
  return values;
}

// All sequences, `tokens` of each.
absl::StatusOr<std::vector<ParityReader>> ReadSequences(
    const ParityCase& run, absl::Span<const int32_t> ids, int64_t length,
    int64_t tokens) {
  std::vector<ParityReader> readers;
  for (size_t first = 0; first < ids.size(); first += length) {
    MNEME_ASSIGN_OR_RETURN(
        ParityReader reader,
        run.ReadAll(ids.subspan(first, tokens), (tokens + 1) / 2));
    readers.push_back(std::move(reader));
  }
  return readers;
}

}  // namespace

absl::Status RunSequencesCase(ParityCase& run) {
  const Model& model = run.model();
  const bool infini = model.config().HasMixer(MixerType::kInfini);
  const TensorMap& expected = run.expected();
  const Shape& shape = expected.at("input_ids").shape;
  if (shape.size() != 2) return MalformedTensor("input_ids", "want [B, T]");
  const int64_t length = shape[1];
  MNEME_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                         run.TokenIds("input_ids"));
  for (const auto& [name, view] : expected) {
    if (name == "input_ids") continue;
    const bool matrix = infini && absl::EndsWith(name, ".M");
    const bool vector = infini && absl::EndsWith(name, ".z");
    const bool flush = absl::StartsWith(name, "flush.");
    int64_t segment = 0;
    const bool numbered =
        absl::StartsWith(name, "seg") && (matrix || vector) &&
        absl::SimpleAtoi(name.substr(3, name.size() - 5), &segment) &&
        segment >= 0 && (segment + 1) * model.config().infini.segment <= length;
    if (name != "logits" && !numbered && !(flush && (matrix || vector))) {
      return MalformedTensor(name,
                             "want logits, segS.M, segS.z, flush.M or flush.z");
    }
    const int64_t tokens =
        numbered ? (segment + 1) * model.config().infini.segment : length;
    MNEME_ASSIGN_OR_RETURN(std::vector<ParityReader> readers,
                           ReadSequences(run, ids, length, tokens));
    std::vector<float> values;
    if (name == "logits") {
      for (const ParityReader& reader : readers) {
        values.insert(values.end(), reader.logits().begin(),
                      reader.logits().end());
      }
    } else {
      for (ParityReader& reader : readers) {
        if (flush) MNEME_RETURN_IF_ERROR(reader.CommitSegment());
      }
      values = Memories(model, readers, matrix);
    }
    MNEME_RETURN_IF_ERROR(
        run.Compare(name, view, values,
                    name == "logits" ? ParityCase::Measure::kOutput
                                     : ParityCase::Measure::kRelativeMemory));
  }
  return absl::OkStatus();
}

}  // namespace mneme
