// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/to_f32.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using testing::ElementsAre;

float Widen(DType dtype, uint16_t bits) {
  float value = -1;
  CopyAsF32({.data = &bits, .dtype = dtype, .shape = {1}}, 0, 1, &value);
  return value;
}

// What the bits of an IEEE 754 number of `exponent_bits` and `fraction_bits`
// mean, from the definition.
double Meaning(uint16_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double fraction =
      std::ldexp(bits & ((1 << fraction_bits) - 1), -fraction_bits);
  const double sign = (bits >> 15) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction == 0 ? sign * INFINITY : NAN;
  }
  return exponent == 0 ? sign * std::ldexp(fraction, 1 - bias)
                       : sign * std::ldexp(1 + fraction, exponent - bias);
}

TEST(CopyAsF32Test, EveryHalfMeansWhatTheStandardSays) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    for (const auto& [dtype, exponent, fraction] :
         {std::tuple{DType::kF16, 5, 10}, {DType::kBF16, 8, 7}}) {
      const double wanted = Meaning(bits, exponent, fraction);
      const float found = Widen(dtype, bits);
      if (std::isnan(wanted)) {
        ASSERT_TRUE(std::isnan(found)) << DTypeName(dtype) << " " << bits;
      } else {
        ASSERT_EQ(double{found}, wanted) << DTypeName(dtype) << " " << bits;
        ASSERT_EQ(std::signbit(found), std::signbit(wanted));
      }
    }
  }
}

TEST(CopyAsF32Test, ARangeAtAnOddAddressIsCopied) {
  const std::vector<float> values = {1, -2, 3, -4};
  std::vector<char> bytes(1 + 4 * 4);
  std::memcpy(bytes.data() + 1, values.data(), 16);
  std::vector<float> out(4, 9.0f);
  CopyAsF32({.data = bytes.data() + 1, .shape = {2, 2}}, 1, 2, out.data());
  EXPECT_THAT(out, ElementsAre(-2, 3, 9, 9));

  for (int i = 0; i < 4; ++i) {
    const auto half =
        static_cast<uint16_t>(std::bit_cast<uint32_t>(values[i]) >> 16);
    std::memcpy(bytes.data() + 1 + 2 * i, &half, 2);
  }
  CopyAsF32({.data = bytes.data() + 1, .dtype = DType::kBF16, .shape = {2, 2}},
            2, 2, out.data());
  EXPECT_THAT(out, ElementsAre(3, -4, 9, 9));
  CopyAsF32({.data = nullptr, .shape = {0}}, 0, 0, nullptr);
}

}  // namespace
}  // namespace mneme
