// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/dtype.h"

#include <array>
#include <string>

#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

struct DTypeFacts {
  DType dtype;
  std::string_view name;
  int64_t bytes;
};

// In the order of the enum.
constexpr std::array<DTypeFacts, 10> kFacts = {{
    {DType::kF64, "F64", 8},
    {DType::kF32, "F32", 4},
    {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},
    {DType::kI64, "I64", 8},
    {DType::kI32, "I32", 4},
    {DType::kI16, "I16", 2},
    {DType::kI8, "I8", 1},
    {DType::kU8, "U8", 1},
    {DType::kBool, "BOOL", 1},
}};

}  // namespace

int64_t DTypeBytes(DType dtype) {
  return kFacts[static_cast<size_t>(dtype)].bytes;
}

std::string_view DTypeName(DType dtype) {
  return kFacts[static_cast<size_t>(dtype)].name;
}

absl::StatusOr<DType> ParseDType(std::string_view name) {
  for (const DTypeFacts& facts : kFacts) {
    if (facts.name == name) return facts.dtype;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("dtype \"", std::string(name), "\" is not known"));
}

}  // namespace mneme
