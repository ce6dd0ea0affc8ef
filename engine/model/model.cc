// SPDX-License-Identifier: Apache-2.0
#include "engine/model/model.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/files.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/model/families/family.h"
#include "engine/model/tokenizer_file.h"

namespace mneme {
namespace {

constexpr int64_t kMaxConfigBytes = 1 << 20;

}  // namespace

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& directory,
                                            const ModelSettings& settings) {
  MNEME_ASSIGN_OR_RETURN(
      const std::string text,
      ReadSmallFile(directory + "/config.json", kMaxConfigBytes));
  return ParseModelConfig(text, DefaultTokenizer(directory), settings);
}

namespace {

std::string Fingerprint(const ModelConfig& config,
                        std::string_view tokenizer_file,
                        const Weights& weights) {
  Sha256 hash;
  hash.Update("mneme-model-1");
  hash.Update(config.canonical);
  if (!tokenizer_file.empty()) {
    Sha256 file;
    file.Update(tokenizer_file);
    hash.Update(file.HexDigest());
  }
  hash.Update(weights.Digest());
  return hash.HexDigest();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Model>> Model::Load(
    const std::string& directory, const ModelOptions& options, Backend* backend,
    Preparer* preparer) {
  MNEME_ASSIGN_OR_RETURN(ModelConfig config,
                         ReadModelConfig(directory, options.settings));
  return Load(std::move(config), directory, options, backend, preparer);
}

absl::StatusOr<std::shared_ptr<const Model>> Model::Load(
    ModelConfig config, const std::string& directory,
    const ModelOptions& options, Backend* backend, Preparer* preparer) {
  auto model = absl::WrapUnique(new Model());
  model->options_ = options;
  model->backend_ = backend;
  model->config_ = std::move(config);
  MNEME_ASSIGN_OR_RETURN(
      model->tokenizer_file_,
      ReadTokenizerFile(directory, model->config_.tokenizer));
  MNEME_ASSIGN_OR_RETURN(Weights weights, Weights::Open(directory));
  MNEME_RETURN_IF_ERROR(
      model->TakeWeights(weights, preparer != nullptr ? *preparer : *backend));
  model->fingerprint_ =
      Fingerprint(model->config_, model->tokenizer_file_, weights);
  return std::shared_ptr<const Model>(std::move(model));
}

absl::Status Model::CreateWeights(const ModelConfig& config, Weights& weights,
                                  Preparer& preparer) {
  Model model;
  model.config_ = config;
  return model.TakeWeights(weights, preparer);
}

absl::Status Model::TakeWeights(Weights& weights, Preparer& preparer) {
  const ModelConfig& config = config_;
  if (FamilyOf(config).adapt != nullptr) {
    MNEME_RETURN_IF_ERROR(FamilyOf(config).adapt(config, weights));
  }
  const BuildContext context{
      .config = config,
      .weights = weights,
      .backend = preparer,
      .max_rows = std::max(options_.block_tokens, options_.max_step_rows)};
  MNEME_ASSIGN_OR_RETURN(embedding_, Embedding::Take(context));
  MNEME_ASSIGN_OR_RETURN(head_, OutputHead::Take(context, *embedding_));
  if (config.final_norm) {
    MNEME_ASSIGN_OR_RETURN(final_norm_, Norm::Take(context, "model.norm"));
  }

  StateSpec spec{.layers = {},
                 .hidden_floats = config.model_dim,
                 .block_tokens = options_.block_tokens};
  weight_bytes_ = embedding_->weight_bytes() + head_->weight_bytes();
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    MNEME_ASSIGN_OR_RETURN(DecoderBlock block,
                           DecoderBlock::Make(context, layer));
    spec.layers.push_back(block.state_spec());
    weight_bytes_ += block.weight_bytes();
    blocks_.push_back(std::move(block));
  }
  MNEME_RETURN_IF_ERROR(weights.CheckAllTaken());
  layout_ = std::make_shared<StateLayout>(std::move(spec));
  parameters_ = weights.elements();
  return absl::OkStatus();
}

std::vector<std::string> Model::mixer_kinds() const {
  std::vector<std::string> kinds;
  for (const DecoderBlock& block : blocks_) {
    const std::string kind(block.mixer().kind());
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) {
      kinds.push_back(kind);
    }
  }
  return kinds;
}

int64_t Model::segment_tokens() const {
  int64_t tokens = 0;
  for (const DecoderBlock& block : blocks_) {
    tokens = std::max(tokens, block.mixer().segment_tokens());
  }
  return tokens;
}

bool Model::commits_segments() const {
  return std::any_of(blocks_.begin(), blocks_.end(), [](const auto& block) {
    return block.mixer().commits_segments();
  });
}

int64_t Model::open_segment_tokens(const SessionState& state) const {
  int64_t tokens = 0;
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    tokens = std::max(
        tokens, blocks_[layer].mixer().open_tokens(
                    layout_->first_part(static_cast<int64_t>(layer)), state));
  }
  return tokens;
}

absl::StatusOr<std::unique_ptr<SessionState>> Model::NewState() const {
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<SessionState> state,
                         SessionState::Create(layout_));
  Initialise(*state);
  return state;
}

void Model::ResetState(SessionState& state) const {
  state.Clear();
  Initialise(state);
}

void Model::Initialise(SessionState& state) const {
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    blocks_[layer].InitialiseState(
        layout_->first_part(static_cast<int64_t>(layer)), state);
  }
}

absl::Status Model::DecodeState(std::string_view in,
                                SessionState& state) const {
  if (state.position() > 0) ResetState(state);
  absl::Status status = state.Decode(in);
  if (status.ok()) status = CheckState(state);
  if (!status.ok()) ResetState(state);
  return status;
}

absl::Status Model::CheckState(const SessionState& state) const {
  const int64_t limit = config_.token_limit();
  if (limit > 0 && state.position() > limit) {
    return absl::DataLossError(absl::StrCat("session state: found ",
                                            state.position(),
                                            " tokens, wanted up to ", limit));
  }
  std::vector<int32_t> tokens;
  state.CopyRecent(SessionState::kRecentTokens, tokens);
  tokens.insert(tokens.end(), state.tail().begin(), state.tail().end());
  for (const int32_t token : tokens) {
    if (token < 0 || token >= config_.vocab_size) {
      return absl::DataLossError(absl::StrCat("session state: found token ",
                                              token, ", wanted one below ",
                                              config_.vocab_size));
    }
  }
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    const int64_t first = layout_->first_part(static_cast<int64_t>(layer));
    if (!blocks_[layer].mixer().HasRightRows(first, state)) {
      return absl::DataLossError(absl::StrCat(
          "session state: layer ", layer, " has not the rows that ",
          state.computed_tokens(), " tokens leave"));
    }
  }
  return absl::OkStatus();
}

int64_t Model::max_rows() const {
  return std::max(options_.block_tokens, options_.max_step_rows);
}

int64_t Model::workspace_bytes(int64_t rows) const {
  // x and the rows that logits are wanted of, of which each slice may add
  // one; then the logits themselves.
  const int64_t logit_rows = rows + kMaxPassSlices;
  int64_t layer_bytes = std::max(embedding_->scratch_bytes(rows),
                                 head_->scratch_bytes(logit_rows));
  for (const DecoderBlock& block : blocks_) {
    layer_bytes = std::max(layer_bytes, block.scratch_bytes(rows));
  }
  return Pass::ScratchBytes(rows, config_.model_dim) +
         Pass::ScratchBytes(logit_rows, config_.model_dim) +
         Pass::ScratchBytes(logit_rows, config_.vocab_size) + layer_bytes;
}

Rows Model::LogitsScratch(ComputePath path, int64_t rows,
                          Workspace& workspace) const {
  Rows logits = workspace.Matrix(PaddedRows(path, rows), config_.vocab_size);
  logits.rows = rows;
  return logits;
}

void Model::KeepHidden(ConstRows hidden,
                       absl::Span<const PassSlice> slices) const {
  const int64_t part = layout_->hidden_part();
  for (const PassSlice& slice : slices) {
    std::copy_n(hidden.row(slice.first_row + slice.rows - 1), config_.model_dim,
                slice.state->spare(part));
    slice.state->Replace(part, 1);
  }
}

void Model::CommitSegment(SessionState& state) const {
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    blocks_[layer].mixer().CommitSegment(
        *backend_, layout_->first_part(static_cast<int64_t>(layer)), state);
  }
}

absl::Status Model::Forward(ComputePath path,
                            absl::Span<const ModelSlice> slices,
                            Workspace& workspace, Rows logits,
                            ForwardProbe* probe) const {
  const Workspace::Frame frame(workspace);
  absl::InlinedVector<PassSlice, kMaxPassSlices> pass_slices;
  int64_t rows = 0;
  for (const ModelSlice& slice : slices) {
    const int64_t count = static_cast<int64_t>(slice.tokens.size());
    if (count == 0) continue;
    pass_slices.push_back({.state = slice.state,
                           .first_row = rows,
                           .rows = count,
                           .position = slice.state->computed_tokens()});
    rows += count;
  }
  MNEME_DCHECK(path == ComputePath::kStep || pass_slices.size() <= 1);
  const Pass pass{.path = path,
                  .backend = *backend_,
                  .workspace = workspace,
                  .rows = rows,
                  .slices = pass_slices};

  // The final hidden states that logits are made of: those that the states
  // had before are taken first, because the pass replaces them.
  Rows wanted =
      workspace.Matrix(PaddedRows(path, logits.rows), config_.model_dim);
  wanted.rows = logits.rows;
  int64_t to = 0;
  for (const ModelSlice& slice : slices) {
    if (slice.prior_logits) {
      const absl::Span<const float> hidden = slice.state->hidden();
      std::copy(hidden.begin(), hidden.end(), wanted.row(to));
    }
    to += slice.logit_rows();
  }

  if (rows > 0) {
    Rows x = pass.Scratch(config_.model_dim);
    absl::InlinedVector<int32_t, kBlockRows> ids;
    for (const ModelSlice& slice : slices) {
      ids.insert(ids.end(), slice.tokens.begin(), slice.tokens.end());
    }
    embedding_->Forward(pass, ids, x);
    for (size_t layer = 0; layer < blocks_.size(); ++layer) {
      if (probe != nullptr) probe->OnLayer(static_cast<int64_t>(layer), x);
      blocks_[layer].Forward(
          pass, layout_->first_part(static_cast<int64_t>(layer)), x);
    }
    if (final_norm_.has_value()) final_norm_->Forward(*backend_, x, x);
    if (probe != nullptr) probe->OnLayer(config_.layers, x);
    KeepHidden(x, pass_slices);

    int64_t row = 0;
    to = 0;
    for (const ModelSlice& slice : slices) {
      if (slice.prior_logits) ++to;
      for (int64_t i = slice.logits_begin; i < slice.logits_end; ++i) {
        std::copy_n(x.row(row + i), config_.model_dim, wanted.row(to++));
      }
      row += static_cast<int64_t>(slice.tokens.size());
    }
  }
  if (logits.rows > 0) {
    head_->Forward(path, *backend_, workspace, wanted, logits);
  }
  for (const ModelSlice& slice : slices) {
    if (slice.commit_segment) CommitSegment(*slice.state);
  }
  return backend_->Finish();
}

}  // namespace mneme
