// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_FEED_FORWARD_H_
#define MNEME_ENGINE_MODEL_FEED_FORWARD_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/model/pass.h"
#include "engine/model/projection.h"

namespace mneme {

// The part of a layer that treats each token alone:
//
//     down(act(gate h) * up h)     with a gate: SwiGLU, GeGLU
//     down(act(up h))              without
//
// Immutable and thread-safe.
class FeedForward {
 public:
  // Takes `prefix`{gate_proj, up_proj, down_proj}. Errors as Weights.
  static absl::StatusOr<FeedForward> Take(const BuildContext& context,
                                          const std::string& prefix);

  // y [rows, model_dim] from h [rows, model_dim]; y may be h.
  void Forward(const Pass& pass, ConstRows h, Rows y) const;

  int64_t weight_bytes() const;
  int64_t scratch_bytes(int64_t rows) const;

 private:
  FeedForward(Activation activation, int64_t dim, Projection up,
              Projection down)
      : activation_(activation),
        dim_(dim),
        up_(std::move(up)),
        down_(std::move(down)) {}

  Activation activation_;
  int64_t dim_;  // ffn_dim
  absl::optional<Projection> gate_;
  Projection up_, down_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_FEED_FORWARD_H_
