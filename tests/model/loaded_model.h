// SPDX-License-Identifier: Apache-2.0
//
// A model driven by hand, pass by pass.
#ifndef MNEME_TESTS_MODEL_LOADED_MODEL_H_
#define MNEME_TESTS_MODEL_LOADED_MODEL_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/model.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {

using Tokens = std::vector<int32_t>;

inline Tokens RandomTokens(int count, unsigned seed) {
  std::mt19937 random(seed);
  Tokens tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 264);
  return tokens;
}

inline double MaxDifference(const std::vector<float>& a,
                            const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double{a[i]} - b[i]);
    worst = difference <= worst ? worst : difference;
    if (std::isnan(difference)) return INFINITY;
  }
  return worst;
}

// A model with a workspace of exactly the size it asks for.
class LoadedModel {
 public:
  LoadedModel(const std::string& directory, std::unique_ptr<Backend> backend,
              const ModelOptions& options = {})
      : backend_(std::move(backend)) {
    absl::StatusOr<std::shared_ptr<const Model>> model =
        Model::Load(directory, options, backend_.get());
    EXPECT_THAT(model, IsOk());
    model_ = *std::move(model);
    workspace_ = std::make_unique<Workspace>(
        model_->workspace_bytes(model_->max_rows()));
  }

  const Model& operator*() const { return *model_; }
  const Model* operator->() const { return model_.get(); }
  std::unique_ptr<SessionState> NewState() const { return *model_->NewState(); }
  std::string Digest(const SessionState& state) const {
    return state.Digest(model_->fingerprint());
  }

  // Fills the scratch of passes with NaN.
  void PoisonScratch() {
    const Workspace::Frame frame(*workspace_);
    const int64_t floats = workspace_->bytes() / 64 * 16;
    std::fill_n(workspace_->Floats(floats), floats,
                std::numeric_limits<float>::quiet_NaN());
  }

  // From now on every pass is computed twice, and what the first time wrote
  // abandoned.
  void AbandonFirst(bool on) { abandon_first_ = on; }

  // A pass; its logits, row after row. Leaves the units open.
  std::vector<float> Forward(ComputePath path,
                             const std::vector<ModelSlice>& slices) {
    if (abandon_first_) {
      Compute(path, slices);
      for (const ModelSlice& slice : slices) slice.state->Abandon();
    }
    return Compute(path, slices);
  }

  std::vector<float> Compute(ComputePath path,
                             const std::vector<ModelSlice>& slices) {
    const Workspace::Frame frame(*workspace_);
    int64_t rows = 0;
    for (const ModelSlice& slice : slices) rows += slice.logit_rows();
    const Rows logits = model_->LogitsScratch(path, rows, *workspace_);
    EXPECT_THAT(model_->Forward(path, slices, *workspace_, logits), IsOk());
    std::vector<float> values;
    for (int64_t row = 0; row < rows; ++row) {
      values.insert(values.end(), logits.row(row),
                    logits.row(row) + logits.cols);
    }
    return values;
  }

  // Reads tokens that fit in the open block, in one pass, and commits; the
  // logits of every token.
  std::vector<float> ReadSome(ComputePath path, SessionState& state,
                              absl::Span<const int32_t> tokens) {
    for (const int32_t token : tokens) state.PushToken(token);
    std::vector<float> logits =
        Forward(path, {{.state = &state,
                        .tokens = state.tail(),
                        .logits_end = static_cast<int64_t>(tokens.size())}});
    state.Commit();
    return logits;
  }

  // Reads any number of tokens in passes of at most `most`.
  std::vector<float> Read(ComputePath path, SessionState& state,
                          absl::Span<const int32_t> tokens,
                          int64_t most = kBlockRows) {
    std::vector<float> logits;
    while (!tokens.empty()) {
      const size_t count =
          std::min({static_cast<size_t>(std::min(most, state.tail_room())),
                    tokens.size()});
      const std::vector<float> some =
          ReadSome(path, state, tokens.subspan(0, count));
      logits.insert(logits.end(), some.begin(), some.end());
      tokens.remove_prefix(count);
    }
    return logits;
  }

 private:
  std::unique_ptr<Backend> backend_;
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Workspace> workspace_;
  bool abandon_first_ = false;
};

}  // namespace mneme

#endif  // MNEME_TESTS_MODEL_LOADED_MODEL_H_
