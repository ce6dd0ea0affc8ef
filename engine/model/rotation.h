// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_ROTATION_H_
#define MNEME_ENGINE_MODEL_ROTATION_H_

#include <cstdint>
#include <vector>

#include "engine/model/model_config.h"

namespace mneme {

// The angles of a rotary embedding: at position i, pair m of a head turns by
// i theta^(-2m / head_dim). Su et al. 2021, arXiv:2104.09864, equation 15.
struct Rotation {
  std::vector<float> cosines;  // [positions, head_dim / 2]
  std::vector<float> sines;    // likewise

  Rotation(int64_t positions, int64_t head_dim, float theta);

  int64_t bytes() const {
    return static_cast<int64_t>((cosines.size() + sines.size()) *
                                sizeof(float));
  }
};

// The angle by which one position turns each pair of a head: [head_dim / 2].
std::vector<double> RotationFrequencies(const RopeConfig& rope,
                                        int64_t head_dim);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_ROTATION_H_
