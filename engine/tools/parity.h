// SPDX-License-Identifier: Apache-2.0
//
// Runs reference cases: a checkpoint with what another implementation
// computed from it. A case is a directory of config.json, model.safetensors
// and expected.safetensors. The expected tensors of a TTT model, for sequence
// lengths L:
//
//   input_ids.lenL        [L] i64           what is read
//   prefix_len.lenL       [1] i64           where the other one went over to
//                                           token by token
//   logits_prefill.lenL   [L, vocab] f32    from one call
//   logits_decode.lenL    [L, vocab] f32    from a prefix and single tokens
//   state.lenL.layers.I.* f32               the state after all L
//   greedy_prompt_ids, greedy_output_ids    [n] i64
//
// and of any other model, for B sequences of T tokens:
//
//   input_ids             [B, T] i64
//   logits                [B, T, vocab] f32
//
// with, of Infini-attention,
//
//   segS.M, segS.z        [layers, B, kv_heads, head_dim (, head_dim)] f32
//                                           memories after segment S
//   flush.M, flush.z      likewise          after the open segment was
//                                           committed
//
// and of Transformer-XL, for the segments that B sequences were cut into:
//
//   input_ids             [B, T] i64
//   segment_lengths       [S] i64           together T
//   segS.log_probs        [B, length, vocab] f32
//   segS.last_hidden      [B, length, dim] f32
//   segS.mems             [layers, rows, B, dim] f32    what each layer read,
//                                           of the last rows up to there
#ifndef MNEME_ENGINE_TOOLS_PARITY_H_
#define MNEME_ENGINE_TOOLS_PARITY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "engine/ops/backend.h"

namespace mneme {

enum class ParityPath {
  kBlock,  // every token through the block kernels, the last block short
  kStep,   // every token through the step kernels
  kMixed,  // as a session goes: whole blocks, and steps where output is wanted
};

struct ParityOptions {
  ParityPath path = ParityPath::kMixed;
  // Sizes of the messages that a sequence comes in, repeated as needed. In
  // kMixed output is wanted after each. Empty: all in one message; in kMixed
  // the case's prefix, then single tokens.
  std::vector<int64_t> cuts;
  int64_t block_tokens = kBlockRows;
  // Largest absolute difference allowed. Of memories it is half of that, and
  // of Infini-attention's relative to 1 + |wanted|.
  // The rounding of f32 costs about 1e-5 on these cases, the subtlest known
  // mistake 2e-3.
  double tolerance = 2e-4;
  ModelSettings settings;
  std::string dump;  // file for what was computed, if not empty
};

struct ParityLine {
  std::string tensor;
  std::string shape;
  double max_abs = 0;  // as the tolerance counts
  double max_rel = 0;  // |difference| / max(|expected|, 1e-3)
  double tolerance = 0;
  bool passed = false;
};

// One line per expected tensor but the inputs. Errors as Model::Load, and
// INVALID_ARGUMENT for a case that is not laid out as above.
absl::StatusOr<std::vector<ParityLine>> RunParity(
    const std::string& case_directory, const ParityOptions& options,
    Backend& backend);

}  // namespace mneme

#endif  // MNEME_ENGINE_TOOLS_PARITY_H_
