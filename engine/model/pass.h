// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_PASS_H_
#define MNEME_ENGINE_MODEL_PASS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "engine/model/model_config.h"
#include "engine/model/weights.h"
#include "engine/ops/backend.h"
#include "engine/state/session_state.h"
#include "engine/tensor/workspace.h"

namespace mneme {

// Sessions in one pass, at most.
inline constexpr int64_t kMaxPassSlices = 64;

// What the layers of a model are built from.
struct BuildContext {
  const ModelConfig& config;
  Weights& weights;
  Preparer& backend;
  int64_t max_rows = 0;  // of one session in a pass
};

// Consecutive rows of a pass that belong to one session.
struct PassSlice {
  SessionState* state = nullptr;
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t position = 0;  // of the first row
};

// One pass over the model's weights: a matrix with a row per token, the
// sessions its rows belong to, and what to compute with.
struct Pass {
  ComputePath path = ComputePath::kStep;
  Backend& backend;
  Workspace& workspace;
  int64_t rows = 0;
  absl::Span<const PassSlice> slices;  // in row order, none empty

  // Scratch for [rows, cols], good as an operand on this path.
  Rows Scratch(int64_t cols) const {
    Rows scratch = workspace.Matrix(PaddedRows(path, rows), cols);
    scratch.rows = rows;
    return scratch;
  }
  // What a Scratch takes in a pass of at most `rows`.
  static int64_t ScratchBytes(int64_t rows, int64_t cols) {
    return Workspace::MatrixBytes(PaddedRows(ComputePath::kBlock, rows), cols);
  }
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_PASS_H_
