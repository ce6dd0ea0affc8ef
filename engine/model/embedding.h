// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_EMBEDDING_H_
#define MNEME_ENGINE_MODEL_EMBEDDING_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "engine/model/norm.h"
#include "engine/model/pass.h"
#include "engine/model/projection.h"

namespace mneme {

// What the first layer reads: the row of each token, of its position where
// these are learned, then a norm where the model has one.
//
// An adaptive vocabulary has a table per band of tokens, frequent ones first,
// each with a width and a projection of its own: Baevski & Auli 2018,
// "Adaptive Input Representations", arXiv:1809.10853, section 3; scaled by the
// root of model_dim as Transformer-XL has it.
//
// Immutable and thread-safe.
class Embedding {
 public:
  // Tokens first_token and on, `table->out()` of them.
  struct Band {
    int64_t first_token = 0;
    std::unique_ptr<const Matrix> table;  // [tokens, width]
    int projection = -1;                  // of projections(); or none
  };

  // Errors as Weights.
  static absl::StatusOr<std::unique_ptr<const Embedding>> Take(
      const BuildContext& context);

  // In the order of their tokens, together the whole vocabulary.
  const std::vector<Band>& bands() const { return bands_; }

  int64_t weight_bytes() const;
  int64_t scratch_bytes(int64_t rows) const;

  // x [rows, model_dim] = what the pass's tokens stand for, one id per row.
  void Forward(const Pass& pass, absl::Span<const int32_t> ids, Rows x) const;

 private:
  Embedding() = default;

  absl::Status TakeBands(const BuildContext& context);
  void GatherBand(const Pass& pass, const Band& band,
                  absl::Span<const int32_t> ids, Rows x) const;

  int64_t dim_ = 0;
  float scale_ = 1.0f;
  std::vector<Band> bands_;
  std::vector<Projection> projections_;      // [model_dim, width]
  std::unique_ptr<const Matrix> positions_;  // [positions, model_dim]; or null
  absl::optional<Norm> norm_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_EMBEDDING_H_
