// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TENSOR_DTYPE_H_
#define MNEME_ENGINE_TENSOR_DTYPE_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace mneme {

// The element types of the safetensors format that this engine tells apart.
enum class DType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };

// Bytes of one element.
int64_t DTypeBytes(DType dtype);

// The safetensors spelling: "F32".
std::string_view DTypeName(DType dtype);

// INVALID_ARGUMENT for a spelling that is none of the above.
absl::StatusOr<DType> ParseDType(std::string_view name);

}  // namespace mneme

#endif  // MNEME_ENGINE_TENSOR_DTYPE_H_
