// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_CAUSAL_CONV_H_
#define MNEME_ENGINE_MODEL_CAUSAL_CONV_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/mixers/sequence_mixer.h"
#include "engine/model/weights.h"
#include "engine/tensor/tensor.h"

namespace mneme {

// A depthwise causal convolution whose window of earlier inputs is a part of
// the state.
class CausalConv {
 public:
  // Takes `name`.weight [channels, 1, taps] and `name`.bias [channels].
  static absl::StatusOr<CausalConv> Take(const std::string& name,
                                         int64_t channels, int64_t taps,
                                         Weights& weights);

  // The state part that holds its window.
  static PartSpec WindowSpec(const std::string& name, int64_t channels,
                             int64_t taps);

  enum class Window {
    kKeep,     // another convolution of the same inputs comes after this one
    kAdvance,  // the window moves on by the pass's rows
  };

  // y [rows, channels] = conv(x), reading each session's window in `part`.
  void Forward(const Pass& pass, int64_t part, Window window, ConstRows x,
               Rows y) const;

 private:
  CausalConv(Tensor weight, Tensor bias)
      : weight_(std::move(weight)), bias_(std::move(bias)) {}

  Tensor weight_;  // [taps, channels]
  Tensor bias_;    // [channels]
};

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_CAUSAL_CONV_H_
