// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_OUTPUT_HEAD_H_
#define MNEME_ENGINE_MODEL_OUTPUT_HEAD_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/embedding.h"
#include "engine/model/pass.h"
#include "engine/tensor/tensor.h"

namespace mneme {

// What a hidden state says of the next token: a logit per token.
//
// With an adaptive vocabulary these are logarithms of probabilities, which
// are their own logits. The first band's tokens share a softmax with one entry
// for each further band, whose tokens then have a softmax of their own: Grave
// et al. 2016, "Efficient softmax approximation for GPUs", arXiv:1609.04309,
// section 4.
//
// Immutable and thread-safe.
class OutputHead {
 public:
  // `embedding`, which outlives the head, has its tables where they are tied.
  // Errors as Weights.
  static absl::StatusOr<std::unique_ptr<const OutputHead>> Take(
      const BuildContext& context, const Embedding& embedding);

  // Of weights that are not the embedding's.
  int64_t weight_bytes() const;
  // With rows of logits at most.
  int64_t scratch_bytes(int64_t rows) const;

  // logits [rows, vocab_size] from hidden [rows, model_dim]; buffers with room
  // for PaddedRows(path, rows).
  void Forward(ComputePath path, Backend& backend, Workspace& workspace,
               ConstRows hidden, Rows logits) const;

 private:
  struct Band {
    const Matrix* table = nullptr;       // [tokens, width]
    std::unique_ptr<const Matrix> own;   // `table`, unless tied
    const Matrix* projection = nullptr;  // [width, model_dim]; or null
    Tensor bias;                         // [tokens]; or empty
  };

  OutputHead() = default;

  absl::Status TakeAdaptive(const BuildContext& context,
                            const Embedding& embedding);

  std::vector<Band> bands_;
  std::vector<std::unique_ptr<const Matrix>> projections_;
  bool log_probabilities_ = false;
  std::unique_ptr<const Matrix> clusters_;  // [bands - 1, width]; or null
  Tensor cluster_bias_;                     // [bands - 1]
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_OUTPUT_HEAD_H_
