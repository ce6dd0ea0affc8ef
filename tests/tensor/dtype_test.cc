// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/dtype.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

struct Spelling {
  DType dtype;
  const char* name;
  int64_t bytes;
};

constexpr Spelling kSpellings[] = {
    {DType::kF64, "F64", 8},   {DType::kF32, "F32", 4}, {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2}, {DType::kI64, "I64", 8}, {DType::kI32, "I32", 4},
    {DType::kI16, "I16", 2},   {DType::kI8, "I8", 1},   {DType::kU8, "U8", 1},
    {DType::kBool, "BOOL", 1},
};

TEST(DTypeTest, EveryTypeHasTheNameAndSizeOfItsFormat) {
  for (const Spelling& spelling : kSpellings) {
    EXPECT_EQ(DTypeName(spelling.dtype), spelling.name);
    EXPECT_EQ(DTypeBytes(spelling.dtype), spelling.bytes) << spelling.name;
  }
}

TEST(DTypeTest, EveryNameParsesToItsType) {
  for (const Spelling& spelling : kSpellings) {
    const absl::StatusOr<DType> parsed = ParseDType(spelling.name);
    ASSERT_THAT(parsed, IsOk());
    EXPECT_EQ(*parsed, spelling.dtype);
  }
}

TEST(DTypeTest, AnyOtherNameIsRefusedByName) {
  for (const char* name : {"", "f32", "F32 ", "F", "F8_E4M3", "float32"}) {
    EXPECT_THAT(ParseDType(name), Fails(absl::StatusCode::kInvalidArgument,
                                        "\"" + std::string(name) + "\""));
  }
}

}  // namespace
}  // namespace mneme
