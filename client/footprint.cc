// SPDX-License-Identifier: Apache-2.0
#include "client/footprint.h"

#include <algorithm>
#include <cmath>

namespace mneme::client {
namespace {

constexpr int64_t kLayers = 12;
constexpr int64_t kHeads = 8;
constexpr int64_t kHeadDim = 128;  // of keys and of values
constexpr int64_t kModelDim = kHeads * kHeadDim;
constexpr int64_t kSegment = 2048;
// What the paper gives Memorizing Transformers, and one layer holds.
constexpr int64_t kMemorized = 65'000;
constexpr int64_t kCompressed = kSegment;
constexpr int64_t kSummaryTokens = 100;
constexpr int64_t kSummarySteps = 8;

// Of one token in all layers.
constexpr int64_t kTokenFloats = 2 * kHeadDim * kHeads * kLayers;

int64_t TransformerXl(int64_t tokens) {
  return kTokenFloats * std::min(tokens, kSegment);
}
int64_t Compressive(int64_t tokens) {
  return kModelDim * kLayers * std::min(tokens, kCompressed + kSegment);
}
int64_t Memorizing(int64_t tokens) {
  return TransformerXl(tokens) +
         2 * kHeadDim * kHeads * std::min(tokens, kMemorized);
}
int64_t Recurrent(int64_t /*tokens*/) {
  return kModelDim * kSummaryTokens * kLayers * 2;
}
int64_t AutoCompressors(int64_t /*tokens*/) {
  return kModelDim * kSummaryTokens * (kSummarySteps + 1) * kLayers;
}
int64_t Infini(int64_t /*tokens*/) {
  return kHeadDim * (kHeadDim + 1) * kHeads * kLayers;
}
int64_t KeyValueCache(int64_t tokens) { return kTokenFloats * tokens; }

}  // namespace

int64_t StateFloats(const v1::Model& model, int64_t tokens) {
  int64_t floats = 0;
  for (const v1::StatePart& part : model.state_parts()) {
    // A segment counts as full once it has been: so much it may hold.
    const int64_t rows = part.growth() == v1::StatePart::FIXED
                             ? part.rows()
                             : std::min(tokens, part.rows());
    floats += rows * part.row_floats() * part.layers();
  }
  return floats;
}

int64_t KeyValueFloats(const v1::Model& model, int64_t tokens) {
  return 2 * int64_t{model.layers()} * model.model_dim() * tokens;
}

const std::vector<PublishedSystem>& PublishedSystems() {
  static const auto* const systems = new std::vector<PublishedSystem>{
      {"Transformer-XL", "(dk + dv) H N l", &TransformerXl},
      {"Compressive Transformer", "d (c + N) l, c = 2048", &Compressive},
      {"Memorizing Transformers", "(dk + dv) H (N l + 65K)", &Memorizing},
      {"RMT", "d p l 2, p = 100", &Recurrent},
      {"AutoCompressors", "d p (m + 1) l, m = 8", &AutoCompressors},
      {"Infini-Transformer", "dk (dv + 1) H l", &Infini},
      {"plain KV cache", "(dk + dv) H T l", &KeyValueCache}};
  return *systems;
}

PublishedRatio InfiniRatio() {
  const double memorizing = static_cast<double>(Memorizing(1 << 20));
  const double infini = static_cast<double>(Infini(1 << 20));
  return {
      .printed = std::floor(memorizing / 1e6) / (std::round(infini / 1e5) / 10),
      .exact = memorizing / infini};
}

}  // namespace mneme::client
