// SPDX-License-Identifier: Apache-2.0
#include "engine/model/causal_conv.h"

#include <utility>

#include "absl/container/inlined_vector.h"
#include "engine/base/status_macros.h"

namespace mneme {

absl::StatusOr<CausalConv> CausalConv::Take(const std::string& name,
                                            int64_t channels, int64_t taps,
                                            Weights& weights) {
  MNEME_ASSIGN_OR_RETURN(
      const Tensor by_channel,
      weights.TakeTensor(name + ".weight", {channels, 1, taps}));
  MNEME_ASSIGN_OR_RETURN(Tensor bias,
                         weights.TakeTensor(name + ".bias", {channels}));
  Tensor by_tap({taps, channels});
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t j = 0; j < taps; ++j) {
      by_tap.mutable_values()[j * channels + c] =
          by_channel.values()[c * taps + j];
    }
  }
  return CausalConv(std::move(by_tap), std::move(bias));
}

PartSpec CausalConv::WindowSpec(const std::string& name, int64_t channels,
                                int64_t taps) {
  return {.name = name,
          .kind = PartKind::kRewritten,
          .rows = taps - 1,
          .row_floats = channels};
}

void CausalConv::Forward(const Pass& pass, int64_t part, Window window,
                         ConstRows x, Rows y) const {
  const int64_t taps = weight_.shape()[0];
  absl::InlinedVector<CausalConvSlice, kMaxPassSlices> slices;
  for (const PassSlice& slice : pass.slices) {
    slices.push_back({.first_row = slice.first_row,
                      .rows = slice.rows,
                      .window = slice.state->contents(part),
                      .next_window = window == Window::kAdvance
                                         ? slice.state->spare(part)
                                         : nullptr});
  }
  pass.backend.CausalConv(
      {.taps = taps, .weight = weight_.data(), .bias = bias_.data()}, x, slices,
      y);
  if (window == Window::kKeep) return;
  for (const PassSlice& slice : pass.slices) {
    slice.state->Replace(part, taps - 1);
  }
}

}  // namespace mneme
