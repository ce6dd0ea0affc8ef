// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/tools/parity_case.h"

namespace mneme {
namespace {

// Rows [first, end) of [rows, width] values.
void AppendRows(const std::vector<float>& from, int64_t first, int64_t end,
                int64_t width, std::vector<float>& to) {
  to.insert(to.end(), from.begin() + first * width, from.begin() + end * width);
}

// What each layer read, of the `rows` tokens before `end`, of which those
// before the sequence's first are zero: [layers, rows, readers, model_dim].
std::vector<float> Memories(const Model& model,
                            const std::vector<ParityReader>& readers,
                            int64_t rows, int64_t end) {
  const int64_t dim = model.config().model_dim;
  std::vector<float> values;
  for (int64_t layer = 0; layer < model.config().layers; ++layer) {
    for (int64_t token = end - rows; token < end; ++token) {
      for (const ParityReader& reader : readers) {
        if (token < 0) {
          values.insert(values.end(), dim, 0.0f);
        } else {
          AppendRows(reader.layers().rows(layer), token, token + 1, dim,
                     values);
        }
      }
    }
  }
  return values;
}

}  // namespace

absl::Status RunTransformerXlCase(ParityCase& run) {
  const Model& model = run.model();
  const ModelConfig& config = model.config();
  const RelativeAttentionConfig& relative = config.relative;
  MNEME_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                         run.TokenIds("input_ids"));
  const Shape& shape = run.expected().at("input_ids").shape;
  if (shape.size() != 2) return MalformedTensor("input_ids", "want [B, T]");
  const int64_t length = shape[1];
  MNEME_ASSIGN_OR_RETURN(
      const std::vector<int64_t> segments,
      ParityCase::Integers(run.expected(), "segment_lengths", 1, length));
  std::vector<ParityReader> readers;
  for (int64_t sequence = 0; sequence < shape[0]; ++sequence) {
    MNEME_ASSIGN_OR_RETURN(
        ParityReader reader,
        run.ReadAll(absl::MakeSpan(ids).subspan(sequence * length, length),
                    segments[0]));
    readers.push_back(std::move(reader));
  }
  size_t compared = 2;  // the inputs
  int64_t first = 0;
  for (size_t s = 0; s < segments.size(); ++s) {
    const int64_t end = first + segments[s];
    if (end > length) {
      return MalformedTensor("segment_lengths", "is longer than input_ids");
    }
    const int64_t rows =
        relative.zero_memory ? relative.memory : std::min(relative.memory, end);
    for (const char* what : {"log_probs", "last_hidden", "mems"}) {
      const std::string name = absl::StrCat("seg", s, ".", what);
      const auto it = run.expected().find(name);
      if (it == run.expected().end()) continue;
      std::vector<float> values;
      auto measure = ParityCase::Measure::kOutput;
      if (name == absl::StrCat("seg", s, ".mems")) {
        measure = ParityCase::Measure::kMemory;
        values = Memories(model, readers, rows, end);
      } else {
        const bool hidden = name == absl::StrCat("seg", s, ".last_hidden");
        for (const ParityReader& reader : readers) {
          AppendRows(
              hidden ? reader.layers().rows(config.layers) : reader.logits(),
              first, end, hidden ? config.model_dim : config.vocab_size,
              values);
        }
      }
      MNEME_RETURN_IF_ERROR(run.Compare(name, it->second, values, measure));
      ++compared;
    }
    first = end;
  }
  if (compared != run.expected().size()) {
    return absl::InvalidArgumentError(
        "expected.safetensors: want input_ids, segment_lengths and, of each "
        "segment, segS.log_probs, segS.last_hidden or segS.mems, and no more");
  }
  return absl::OkStatus();
}

}  // namespace mneme
