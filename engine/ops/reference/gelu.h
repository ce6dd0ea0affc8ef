// SPDX-License-Identifier: Apache-2.0
//
// Hendrycks and Gimpel 2016, arXiv:1606.08415, the tanh approximation.
#ifndef MNEME_ENGINE_OPS_REFERENCE_GELU_H_
#define MNEME_ENGINE_OPS_REFERENCE_GELU_H_

#include <cmath>

namespace mneme::reference {

inline double GeluTanh(double x) {
  const double inner = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1.0 + std::tanh(inner));
}

// Its derivative, with the constants to which the TTT authors' code rounds.
inline double GeluTanhDerivative(double x) {
  const double t = std::tanh(0.79788456 * x * (1.0 + 0.044715 * x * x));
  return 0.5 * x * (1.0 - t * t) * (0.79788456 + 0.1070322243 * x * x) +
         0.5 * (1.0 + t);
}

}  // namespace mneme::reference

#endif  // MNEME_ENGINE_OPS_REFERENCE_GELU_H_
