// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TENSOR_TO_F32_H_
#define MNEME_ENGINE_TENSOR_TO_F32_H_

#include <cstdint>

#include "engine/tensor/tensor.h"

namespace mneme {

// The element types that widen to f32 without rounding.
constexpr bool WidensToF32(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// Elements [first, first + count) of `view`, in row-major order, as f32.
// Exact: every F16 and BF16 number is one of f32; an infinity stays one, and
// what is no number stays none.
//
//   out  [count], overwritten
//
// REQUIRES: WidensToF32(view.dtype), and the elements are there.
void CopyAsF32(const TensorView& view, int64_t first, int64_t count,
               float* out);

}  // namespace mneme

#endif  // MNEME_ENGINE_TENSOR_TO_F32_H_
