// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/measurements.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>

#include "engine/base/status_macros.h"

namespace mneme::bench {
namespace {

double Seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + values.size() / 2,
                   values.end());
  return values[values.size() / 2];
}

Rate RateOf(const std::vector<double>& rates) {
  return {.best = *std::max_element(rates.begin(), rates.end()),
          .median = Median(rates)};
}

int32_t TokenAt(int64_t i) { return static_cast<int32_t>((i * 131 + 7) % 251); }

absl::StatusOr<std::unique_ptr<Workspace>> MakeWorkspace(const Model& model) {
  auto workspace =
      std::make_unique<Workspace>(model.workspace_bytes(model.max_rows()));
  if (!workspace->ok()) return absl::ResourceExhaustedError("workspace");
  return workspace;
}

// Reads one whole block.
absl::Status ReadBlock(const Model& model, SessionState& state,
                       Workspace& workspace) {
  while (state.tail_room() > 0) state.PushToken(TokenAt(state.position()));
  const ModelSlice slice{.state = &state, .tokens = state.tail()};
  MNEME_RETURN_IF_ERROR(
      model.Forward(ComputePath::kBlock, {slice}, workspace,
                    model.LogitsScratch(ComputePath::kBlock, 0, workspace)));
  state.Commit();
  return absl::OkStatus();
}

}  // namespace

double PrefillFlopsPerToken(const Model& model) {
  const ModelConfig& c = model.config();
  const double dim = static_cast<double>(c.model_dim);
  const double projections =
      (c.ttt.use_gate ? 5 : 4) - (c.ttt.share_qk ? 1 : 0);
  return 2.0 * static_cast<double>(c.layers) *
         (projections * dim * dim + 3.0 * dim * static_cast<double>(c.ffn_dim));
}

double DecodeBytesPerPass(const Model& model, int64_t sessions) {
  const ModelConfig& c = model.config();
  // Everything but the embedding, of which a token reads one row; a tied
  // embedding is the head as well.
  const double embedding = 4.0 * static_cast<double>(c.vocab_size) *
                           static_cast<double>(c.model_dim);
  const double weights = static_cast<double>(model.weight_bytes()) -
                         (c.tie_word_embeddings ? 0.0 : embedding);
  // The inner weights are read once a token, the factors grow by a row.
  double state = 0;
  for (const LayerSpec& layer : model.layout()->spec().layers) {
    for (const PartSpec& part : layer) {
      if (part.name != "weights") continue;
      state += 4.0 * static_cast<double>(part.rows * part.row_floats);
    }
  }
  return weights + state * static_cast<double>(sessions);
}

absl::StatusOr<Rate> Prefill(const Model& model, int64_t blocks, int rounds) {
  MNEME_ASSIGN_OR_RETURN(const auto workspace, MakeWorkspace(model));
  MNEME_ASSIGN_OR_RETURN(const auto state, model.NewState());
  std::vector<double> rates;
  for (int round = 0; round < rounds; ++round) {
    const double start = Seconds();
    for (int64_t i = 0; i < blocks; ++i) {
      MNEME_RETURN_IF_ERROR(ReadBlock(model, *state, *workspace));
    }
    rates.push_back(static_cast<double>(blocks * model.block_tokens()) /
                    (Seconds() - start));
  }
  return RateOf(rates);
}

absl::StatusOr<Rate> Decode(const Model& model, int64_t sessions, int64_t steps,
                            int rounds) {
  MNEME_ASSIGN_OR_RETURN(const auto workspace, MakeWorkspace(model));
  std::vector<std::unique_ptr<SessionState>> states;
  for (int64_t i = 0; i < sessions; ++i) {
    MNEME_ASSIGN_OR_RETURN(auto state, model.NewState());
    for (int64_t skip = 0; skip < i % 4; ++skip) {  // at different positions
      state->PushToken(TokenAt(skip));
    }
    states.push_back(std::move(state));
  }
  std::vector<double> rates;
  for (int round = 0; round < rounds; ++round) {
    const double start = Seconds();
    for (int64_t step = 0; step < steps; ++step) {
      std::vector<ModelSlice> slices;
      int64_t rows = 0;
      for (const auto& state : states) {
        state->PushToken(TokenAt(state->position()));
        const int64_t count = static_cast<int64_t>(state->tail().size());
        rows += count;
        if (rows > model.max_step_rows()) {
          return absl::InternalError("too many rows");
        }
        slices.push_back({.state = state.get(),
                          .tokens = state->tail(),
                          .logits_begin = count - 1,
                          .logits_end = count});
      }
      const Workspace::Frame frame(*workspace);
      MNEME_RETURN_IF_ERROR(model.Forward(
          ComputePath::kStep, slices, *workspace,
          model.LogitsScratch(ComputePath::kStep, sessions, *workspace)));
      for (const auto& state : states) state->Commit();
    }
    if (round == 0) continue;  // warms up, and takes the uneven tails
    rates.push_back(static_cast<double>(steps * sessions) /
                    (Seconds() - start));
  }
  return RateOf(rates);
}

absl::StatusOr<CachedEvaluation> EvaluateCached(const Model& model,
                                                int64_t tokens, int rounds) {
  const int64_t block = model.block_tokens();
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<Workspace> workspace,
                         MakeWorkspace(model));
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<SessionState> state,
                         model.NewState());
  // The last `wanted` rows of a block's logits, or of what is left of it.
  const auto read = [&](int64_t count, int64_t wanted) -> absl::Status {
    for (int64_t i = 0; i < count; ++i) {
      state->PushToken(TokenAt(state->position()));
    }
    const Workspace::Frame frame(*workspace);
    const ModelSlice slice{.state = state.get(),
                           .tokens = state->tail(),
                           .logits_begin = count - wanted,
                           .logits_end = count};
    MNEME_RETURN_IF_ERROR(model.Forward(
        ComputePath::kBlock, {slice}, *workspace,
        model.LogitsScratch(ComputePath::kBlock, wanted, *workspace)));
    state->Commit();
    return absl::OkStatus();
  };
  std::vector<double> cached, recomputed;
  for (int round = 0; round < rounds; ++round) {
    model.ResetState(*state);
    const double start = Seconds();
    for (int64_t left = tokens; left > 0; left -= block) {
      const int64_t count = std::min(left, block);
      MNEME_RETURN_IF_ERROR(read(count, left <= block ? 1 : 0));
    }
    recomputed.push_back(Seconds() - start);
    // The block has to be full before the next begins.
    if (state->tail_room() < block) {
      MNEME_RETURN_IF_ERROR(read(block - tokens % block, 0));
    }
    const double cached_start = Seconds();
    constexpr int64_t kBlocks = 4;
    for (int64_t i = 0; i < kBlocks; ++i) {
      MNEME_RETURN_IF_ERROR(read(block, block));
    }
    cached.push_back((Seconds() - cached_start) /
                     static_cast<double>(kBlocks * block));
  }
  return CachedEvaluation{.cached_seconds = Median(cached),
                          .recomputed_seconds = Median(recomputed)};
}

int64_t ResidentBytes() {
  std::ifstream in("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  in >> total >> resident;
  return resident * sysconf(_SC_PAGE_SIZE);
}

absl::StatusOr<Flatness> LongStream(const Model& model, int64_t tokens) {
  constexpr int64_t kStretchBlocks = 8;
  const int64_t stretch = kStretchBlocks * model.block_tokens();
  MNEME_ASSIGN_OR_RETURN(const auto workspace, MakeWorkspace(model));
  MNEME_ASSIGN_OR_RETURN(const auto old_state, model.NewState());
  MNEME_ASSIGN_OR_RETURN(auto young_state, model.NewState());
  Flatness result;
  std::vector<double> old_times;
  std::vector<double> young_times;
  const auto read_stretch = [&](SessionState& state,
                                std::vector<double>& times) {
    const double start = Seconds();
    for (int64_t i = 0; i < kStretchBlocks; ++i) {
      MNEME_RETURN_IF_ERROR(ReadBlock(model, state, *workspace));
    }
    times.push_back((Seconds() - start) / static_cast<double>(stretch) * 1e6);
    return absl::OkStatus();
  };
  int64_t next_point = std::min<int64_t>(tokens, 10'000);
  while (old_state->position() < tokens) {
    MNEME_RETURN_IF_ERROR(read_stretch(*old_state, old_times));
    if (young_state->position() + stretch > 10'000) {
      MNEME_ASSIGN_OR_RETURN(young_state, model.NewState());
    }
    MNEME_RETURN_IF_ERROR(read_stretch(*young_state, young_times));
    if (old_state->position() < next_point) continue;
    const int64_t resident = ResidentBytes();
    if (result.points.empty()) result.resident_after_10k = resident;
    result.points.push_back({.position = old_state->position(),
                             .old_us_per_token = Median(old_times),
                             .young_us_per_token = Median(young_times),
                             .resident_bytes = resident});
    old_times.clear();
    young_times.clear();
    next_point =
        std::min(tokens, next_point < tokens / 10 ? next_point * 10
                                                  : next_point + tokens / 5);
    if (old_state->position() >= tokens) break;
  }
  result.resident_at_end = ResidentBytes();
  return result;
}

}  // namespace mneme::bench
