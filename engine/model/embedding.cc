// SPDX-License-Identifier: Apache-2.0
#include "engine/model/embedding.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

using Ids = absl::InlinedVector<int32_t, kBlockRows>;

}  // namespace

absl::StatusOr<std::unique_ptr<const Embedding>> Embedding::Take(
    const BuildContext& context) {
  const ModelConfig& config = context.config;
  auto embedding = absl::WrapUnique(new Embedding());
  embedding->dim_ = config.model_dim;
  MNEME_RETURN_IF_ERROR(embedding->TakeBands(context));
  if (config.positions > 0) {
    MNEME_ASSIGN_OR_RETURN(
        embedding->positions_,
        context.weights.TakeMatrix("model.embed_positions.weight",
                                   {config.positions, config.model_dim},
                                   context.backend));
  }
  if (config.embedding_norm) {
    MNEME_ASSIGN_OR_RETURN(embedding->norm_,
                           Norm::Take(context, "model.embed_norm"));
  }
  return embedding;
}

absl::Status Embedding::TakeBands(const BuildContext& context) {
  const ModelConfig& config = context.config;
  if (!config.adaptive.has_value()) {
    Band band;
    MNEME_ASSIGN_OR_RETURN(
        band.table,
        context.weights.TakeMatrix("model.embed_tokens.weight",
                                   {config.vocab_size, config.model_dim},
                                   context.backend));
    bands_.push_back(std::move(band));
    return absl::OkStatus();
  }
  const AdaptiveConfig& adaptive = *config.adaptive;
  scale_ = std::sqrt(static_cast<float>(config.model_dim));
  for (int64_t i = 0; i < adaptive.bands(); ++i) {
    Band band;
    band.first_token = adaptive.first_token(i);
    MNEME_ASSIGN_OR_RETURN(
        band.table,
        context.weights.TakeMatrix(
            absl::StrCat("model.embed_tokens.", i, ".weight"),
            {adaptive.tokens(i, config.vocab_size), adaptive.width(i)},
            context.backend));
    if (adaptive.projects(config.model_dim)) {
      band.projection = adaptive.one_width() ? 0 : static_cast<int>(i);
      if (band.projection == static_cast<int>(projections_.size())) {
        MNEME_ASSIGN_OR_RETURN(
            Projection projection,
            Projection::Take(context,
                             absl::StrCat("model.embed_projection.", i),
                             config.model_dim, adaptive.width(i)));
        projections_.push_back(std::move(projection));
      }
    }
    bands_.push_back(std::move(band));
  }
  return absl::OkStatus();
}

int64_t Embedding::weight_bytes() const {
  int64_t bytes = positions_ ? positions_->bytes() : 0;
  for (const Band& band : bands_) bytes += band.table->bytes();
  for (const Projection& projection : projections_) bytes += projection.bytes();
  return bytes;
}

int64_t Embedding::scratch_bytes(int64_t rows) const {
  int64_t widest = 0;
  for (const Band& band : bands_) widest = std::max(widest, band.table->in());
  // A band's rows before and after their projection; the positions' rows.
  return Pass::ScratchBytes(rows, widest) + Pass::ScratchBytes(rows, dim_);
}

void Embedding::Forward(const Pass& pass, absl::Span<const int32_t> ids,
                        Rows x) const {
  Backend& backend = pass.backend;
  for (const Band& band : bands_) {
    if (bands_.size() == 1 && band.projection < 0) {
      backend.GatherRows(*band.table, ids, scale_, x);
    } else {
      GatherBand(pass, band, ids, x);
    }
  }
  if (positions_ != nullptr) {
    const Workspace::Frame frame(pass.workspace);
    Rows y = pass.Scratch(dim_);
    Ids places;
    for (const PassSlice& slice : pass.slices) {
      for (int64_t i = 0; i < slice.rows; ++i) {
        MNEME_DCHECK(slice.position + i < positions_->out());
        places.push_back(static_cast<int32_t>(slice.position + i));
      }
    }
    backend.GatherRows(*positions_, places, 1.0f, y);
    backend.Accumulate(y, x);
  }
  if (norm_.has_value()) norm_->Forward(backend, x, x);
}

// The rows of x whose tokens are of one band.
void Embedding::GatherBand(const Pass& pass, const Band& band,
                           absl::Span<const int32_t> ids, Rows x) const {
  Ids in_band;
  absl::InlinedVector<int64_t, kBlockRows> rows;
  for (size_t row = 0; row < ids.size(); ++row) {
    const int64_t id = ids[row] - band.first_token;
    if (id < 0 || id >= band.table->out()) continue;
    in_band.push_back(static_cast<int32_t>(id));
    rows.push_back(static_cast<int64_t>(row));
  }
  if (rows.empty()) return;
  const Workspace::Frame frame(pass.workspace);
  Rows found = pass.Scratch(band.table->in());
  found.rows = static_cast<int64_t>(rows.size());
  pass.backend.GatherRows(*band.table, in_band, scale_, found);
  if (band.projection >= 0) {
    Rows projected = pass.Scratch(dim_);
    projected.rows = found.rows;
    projections_[band.projection].Forward(pass, found, projected);
    found = projected;
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(found.row(static_cast<int64_t>(i)), dim_, x.row(rows[i]));
  }
}

}  // namespace mneme
