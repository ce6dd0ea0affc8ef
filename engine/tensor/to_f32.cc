// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/to_f32.h"

#include <bit>
#include <cstring>

#include "engine/base/check.h"

namespace mneme {
namespace {

float FromBf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// IEEE 754 binary16. Its exponent and fraction, put where f32 has them, are
// the number times 2^-112, subnormal or not; the product is exact.
float FromF16(uint16_t bits) {
  constexpr uint16_t kSign = 0x8000;
  constexpr uint16_t kExponent = 0x7c00;
  constexpr uint32_t kF32Exponent = 0x7f800000;
  const uint32_t sign = static_cast<uint32_t>(bits & kSign) << 16;
  const uint32_t rest = static_cast<uint32_t>(bits & ~kSign) << 13;
  const uint32_t magnitude =
      (bits & kExponent) == kExponent
          ? rest | kF32Exponent
          : std::bit_cast<uint32_t>(std::bit_cast<float>(rest) * 0x1p112f);
  return std::bit_cast<float>(sign | magnitude);
}

template <float (*Widen)(uint16_t)>
void CopyHalves(const char* from, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;  // at any address
    std::memcpy(&bits, from + i * 2, 2);
    out[i] = Widen(bits);
  }
}

}  // namespace

void CopyAsF32(const TensorView& view, int64_t first, int64_t count,
               float* out) {
  MNEME_DCHECK(first >= 0 && count >= 0 && first + count <= view.elements());
  if (count == 0) return;
  const char* from =
      static_cast<const char*>(view.data) + first * DTypeBytes(view.dtype);
  switch (view.dtype) {
    case DType::kF32:
      std::memcpy(out, from, count * 4);
      return;
    case DType::kF16:
      CopyHalves<FromF16>(from, count, out);
      return;
    case DType::kBF16:
      CopyHalves<FromBf16>(from, count, out);
      return;
    default:
      MNEME_CHECK(WidensToF32(view.dtype));
  }
}

}  // namespace mneme
