// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_MODEL_H_
#define MNEME_ENGINE_MODEL_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/model/decoder_block.h"
#include "engine/model/embedding.h"
#include "engine/model/model_config.h"
#include "engine/model/norm.h"
#include "engine/model/output_head.h"
#include "engine/ops/backend.h"
#include "engine/state/session_state.h"
#include "engine/tensor/workspace.h"

namespace mneme {

struct ModelOptions {
  ModelSettings settings;
  // Tokens per block: the unit of prefill. Every session of one model uses
  // the same; only tests have a reason to change it.
  int64_t block_tokens = kBlockRows;
  // Most rows of a step pass.
  int64_t max_step_rows = kBlockRows;
};

// What one session wants from a pass.
struct ModelSlice {
  SessionState* state = nullptr;
  // The tokens that come after those that the state has computed; may be
  // none, to ask for prior_logits alone.
  absl::Span<const int32_t> tokens;
  // Also the logits that the state had before: those that predict tokens[0].
  bool prior_logits = false;
  // The logits of tokens [logits_begin, logits_end).
  int64_t logits_begin = 0;
  int64_t logits_end = 0;
  // After the tokens, open memory segments are written as if they were full.
  bool commit_segment = false;

  int64_t logit_rows() const {
    return (prior_logits ? 1 : 0) + logits_end - logits_begin;
  }
};

// Is shown the rows of a pass on their way, for tests and parity.
class ForwardProbe {
 public:
  virtual ~ForwardProbe() = default;
  // `x` [rows, model_dim] is what layer `layer` reads; for the layer after the
  // last: what logits are made of.
  virtual void OnLayer(int64_t layer, ConstRows x) = 0;
};

// Reads the config.json of a model's directory, in which the files of a
// tokenizer say what is its default. Errors as Model::Load.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& directory,
                                            const ModelSettings& settings = {});

// A decoder language model with its weights. Immutable and thread-safe, but
// its backend serves one pass at a time.
class Model {
 public:
  // Reads config.json and the checkpoint. NOT_FOUND, INVALID_ARGUMENT,
  // UNIMPLEMENTED, RESOURCE_EXHAUSTED, each naming the file, key or tensor,
  // the found and the wanted. `backend` outlives the model. `preparer` stands
  // before it while loading, for a backend that has other callers; null: none.
  static absl::StatusOr<std::shared_ptr<const Model>> Load(
      const std::string& directory, const ModelOptions& options,
      Backend* backend, Preparer* preparer = nullptr);
  // Likewise where the config is known, which config.json may say otherwise.
  static absl::StatusOr<std::shared_ptr<const Model>> Load(
      ModelConfig config, const std::string& directory,
      const ModelOptions& options, Backend* backend,
      Preparer* preparer = nullptr);

  // Asks `weights` for all that a model of `config` has, and no more.
  static absl::Status CreateWeights(const ModelConfig& config, Weights& weights,
                                    Preparer& preparer);

  const ModelConfig& config() const { return config_; }
  // The contents of the file that the model's tokenizer is made from; empty if
  // it has none.
  const std::string& tokenizer_file() const { return tokenizer_file_; }
  // SHA-256 over config, tokenizer, weights and the form of the state: 64 hex
  // digits.
  const std::string& fingerprint() const { return fingerprint_; }
  const std::shared_ptr<const StateLayout>& layout() const { return layout_; }
  int64_t block_tokens() const { return options_.block_tokens; }
  int64_t max_step_rows() const { return options_.max_step_rows; }
  int64_t parameters() const { return parameters_; }
  int64_t weight_bytes() const { return weight_bytes_; }
  std::vector<std::string> mixer_kinds() const;
  int64_t segment_tokens() const;
  // Whether a pass may be asked to commit segments; and the tokens of the
  // longest that is open in `state`.
  bool commits_segments() const;
  int64_t open_segment_tokens(const SessionState& state) const;
  std::string arithmetic_level() const { return backend_->arithmetic_level(); }

  // The state of a session without history. RESOURCE_EXHAUSTED.
  absl::StatusOr<std::unique_ptr<SessionState>> NewState() const;
  // Makes `state`, which this model made, as NewState makes them.
  void ResetState(SessionState& state) const;
  // Makes `state`, which this model made, the one that `in` is the encoded form
  // of. REQUIRES: no unit is open. On an error it is as ResetState makes it: as
  // SessionState::Decode says, and DATA_LOSS for a state that no history of
  // this model leads to.
  absl::Status DecodeState(std::string_view in, SessionState& state) const;

  // Scratch that Forward takes, and that a caller takes for its logits, in a
  // pass of `rows` at most.
  int64_t workspace_bytes(int64_t rows) const;
  // Rows of the largest pass.
  int64_t max_rows() const;

  // One pass over the weights: computes the tokens of every slice after what
  // its state holds, in the state's open unit of work, and leaves Commit or
  // Abandon to the caller. On the block path there is one slice.
  //
  //   logits  [Σ logit_rows(), vocab_size] from `workspace`, overwritten:
  //           slice after slice, prior logits first. With room for
  //           PaddedRows(path, rows).
  //
  // An error is the backend's; then every state has to be abandoned.
  absl::Status Forward(ComputePath path, absl::Span<const ModelSlice> slices,
                       Workspace& workspace, Rows logits,
                       ForwardProbe* probe = nullptr) const;

  // Room for the logits of a pass.
  Rows LogitsScratch(ComputePath path, int64_t rows,
                     Workspace& workspace) const;

 private:
  Model() = default;

  absl::Status TakeWeights(Weights& weights, Preparer& preparer);

  // Writes what a session begins with into a state of zeros.
  void Initialise(SessionState& state) const;
  absl::Status CheckState(const SessionState& state) const;
  void CommitSegment(SessionState& state) const;
  void KeepHidden(ConstRows hidden, absl::Span<const PassSlice> slices) const;

  ModelConfig config_;
  ModelOptions options_;
  Backend* backend_ = nullptr;
  std::unique_ptr<const Embedding> embedding_;
  std::unique_ptr<const OutputHead> head_;
  std::vector<DecoderBlock> blocks_;
  absl::optional<Norm> final_norm_;
  std::shared_ptr<const StateLayout> layout_;
  std::string tokenizer_file_;
  std::string fingerprint_;
  int64_t parameters_ = 0;
  int64_t weight_bytes_ = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_MODEL_H_
