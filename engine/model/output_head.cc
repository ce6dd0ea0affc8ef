// SPDX-License-Identifier: Apache-2.0
#include "engine/model/output_head.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

Rows ScratchRows(ComputePath path, Workspace& workspace, int64_t rows,
                 int64_t cols) {
  Rows scratch = workspace.Matrix(PaddedRows(path, rows), cols);
  scratch.rows = rows;
  return scratch;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const OutputHead>> OutputHead::Take(
    const BuildContext& context, const Embedding& embedding) {
  const ModelConfig& config = context.config;
  auto head = absl::WrapUnique(new OutputHead());
  if (config.adaptive.has_value()) {
    MNEME_RETURN_IF_ERROR(head->TakeAdaptive(context, embedding));
    return head;
  }
  Band band;
  if (config.tie_word_embeddings) {
    band.table = embedding.bands()[0].table.get();
    // Some savers write it out again.
    MNEME_RETURN_IF_ERROR(context.weights.IgnoreCopy(
        "lm_head.weight", "model.embed_tokens.weight",
        {config.vocab_size, config.model_dim},
        "config.json says \"tie_word_embeddings\""));
  } else {
    MNEME_ASSIGN_OR_RETURN(
        band.own, context.weights.TakeMatrix(
                      "lm_head.weight", {config.vocab_size, config.model_dim},
                      context.backend));
    band.table = band.own.get();
  }
  head->bands_.push_back(std::move(band));
  return head;
}

absl::Status OutputHead::TakeAdaptive(const BuildContext& context,
                                      const Embedding& embedding) {
  const ModelConfig& config = context.config;
  const AdaptiveConfig& adaptive = *config.adaptive;
  log_probabilities_ = true;
  for (int64_t i = 0; i < adaptive.bands(); ++i) {
    const int64_t tokens = adaptive.tokens(i, config.vocab_size);
    Band band;
    if (config.tie_word_embeddings) {
      band.table = embedding.bands()[i].table.get();
    } else {
      MNEME_ASSIGN_OR_RETURN(band.own,
                             context.weights.TakeMatrix(
                                 absl::StrCat("lm_head.", i, ".weight"),
                                 {tokens, adaptive.width(i)}, context.backend));
      band.table = band.own.get();
    }
    MNEME_ASSIGN_OR_RETURN(band.bias,
                           context.weights.TakeTensor(
                               absl::StrCat("lm_head.", i, ".bias"), {tokens}));
    if (adaptive.projects(config.model_dim)) {
      MNEME_ASSIGN_OR_RETURN(
          std::unique_ptr<const Matrix> projection,
          context.weights.TakeMatrix(
              absl::StrCat("lm_head.projection.", i, ".weight"),
              {adaptive.width(i), config.model_dim}, context.backend));
      band.projection = projection.get();
      projections_.push_back(std::move(projection));
    }
    bands_.push_back(std::move(band));
  }
  if (adaptive.bands() == 1) return absl::OkStatus();
  MNEME_ASSIGN_OR_RETURN(
      clusters_,
      context.weights.TakeMatrix("lm_head.clusters.weight",
                                 {adaptive.bands() - 1, adaptive.width(0)},
                                 context.backend));
  MNEME_ASSIGN_OR_RETURN(cluster_bias_,
                         context.weights.TakeTensor("lm_head.clusters.bias",
                                                    {adaptive.bands() - 1}));
  return absl::OkStatus();
}

int64_t OutputHead::weight_bytes() const {
  int64_t bytes = clusters_ ? clusters_->bytes() : 0;
  for (const Band& band : bands_) bytes += band.own ? band.own->bytes() : 0;
  for (const auto& projection : projections_) bytes += projection->bytes();
  return bytes;
}

int64_t OutputHead::scratch_bytes(int64_t rows) const {
  if (!log_probabilities_) return 0;
  int64_t bytes = 0;
  for (const Band& band : bands_) {
    bytes = std::max(bytes, Pass::ScratchBytes(rows, band.table->in()) +
                                Pass::ScratchBytes(rows, band.table->out()));
  }
  return bytes + Pass::ScratchBytes(rows, static_cast<int64_t>(bands_.size()));
}

void OutputHead::Forward(ComputePath path, Backend& backend,
                         Workspace& workspace, ConstRows hidden,
                         Rows logits) const {
  if (!log_probabilities_) {
    return backend.Matmul(path, *bands_[0].table, hidden, logits);
  }
  const Workspace::Frame frame(workspace);
  Rows clusters;
  if (clusters_ != nullptr) {
    clusters = ScratchRows(path, workspace, logits.rows, clusters_->out());
  }
  absl::InlinedVector<int64_t, 8> ends;
  int64_t first = 0;
  for (const Band& band : bands_) {
    const Workspace::Frame band_frame(workspace);
    ConstRows x = hidden;
    if (band.projection != nullptr) {
      const Rows projected =
          ScratchRows(path, workspace, logits.rows, band.projection->out());
      backend.Matmul(path, *band.projection, hidden, projected);
      x = projected;
    }
    if (first == 0 && clusters_ != nullptr) {
      backend.Matmul(path, *clusters_, x, clusters);
      backend.AddBias(cluster_bias_.values(), clusters);
    }
    const Rows y = ScratchRows(path, workspace, logits.rows, band.table->out());
    backend.Matmul(path, *band.table, x, y);
    backend.AddBias(band.bias.values(), y);
    for (int64_t row = 0; row < y.rows; ++row) {
      std::copy_n(y.row(row), y.cols, logits.row(row) + first);
    }
    first += y.cols;
    ends.push_back(first);
  }
  backend.AdaptiveLogSoftmax(ends, clusters, logits);
}

}  // namespace mneme
