// SPDX-License-Identifier: Apache-2.0
#include "tests/ops/conformance.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "engine/base/check.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/ops/reference/reference_backend.h"
#include "hwy/highway.h"

namespace mneme {
namespace {

int64_t RoomFloats(int64_t rows, int64_t cols) {
  return PaddedRows(ComputePath::kBlock, rows) * PaddedStride(cols);
}

// Lets the kernels use `target`; where they were not compiled for it they
// fall back to what every machine has.
void UseTarget(int64_t target) {
  hwy::SetSupportedTargetsForTest(target | HWY_STATIC_TARGET);
}

}  // namespace

std::vector<float> RandomValues(int64_t count, float size, Random& random) {
  std::vector<float> values(count);
  for (float& value : values) {
    value = size * (static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f);
  }
  return values;
}

Operand::Operand(int64_t rows, int64_t cols)
    : rows_(rows),
      cols_(cols),
      stride_(PaddedStride(cols)),
      buffer_(RoomFloats(rows, cols) * 4) {
  std::fill_n(data(), RoomFloats(rows, cols),
              std::numeric_limits<float>::quiet_NaN());
}

Operand::Operand(const Operand& other) : Operand(other.rows_, other.cols_) {
  std::memcpy(buffer_.data(), other.buffer_.data(), buffer_.bytes());
}

Operand& Operand::operator=(const Operand& other) {
  if (this != &other) *this = Operand(other);
  return *this;
}

Operand Operand::Uniform(int64_t rows, int64_t cols, float size,
                         Random& random) {
  Operand operand(rows, cols);
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<float> values = RandomValues(cols, size, random);
    std::copy(values.begin(), values.end(), operand.view().row(row));
  }
  return operand;
}

void Operand::FillRoomBehind(float value) {
  std::fill(data() + rows_ * stride_, data() + RoomFloats(rows_, cols_), value);
}

Operand Operand::Slice(int64_t first, int64_t count) const {
  std::vector<int64_t> rows(count);
  for (int64_t i = 0; i < count; ++i) rows[i] = first + i;
  return Pick(rows);
}

Operand Operand::Pick(const std::vector<int64_t>& rows) const {
  Operand picked(static_cast<int64_t>(rows.size()), cols_);
  for (int64_t i = 0; i < picked.rows_; ++i) {
    std::copy_n(view().row(rows[i]), cols_, picked.view().row(i));
  }
  return picked;
}

namespace {

// Infinite if either is no number.
double Difference(float a, float b) {
  if (a == b) return 0;
  const double difference = std::abs(double{a} - b);
  return std::isnan(difference) ? std::numeric_limits<double>::infinity()
                                : difference;
}

bool SameBits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

ConstRows OneRow(const std::vector<float>& values) {
  const auto size = static_cast<int64_t>(values.size());
  return {values.data(), 1, size, size};
}

testing::AssertionResult NearRows(ConstRows found, ConstRows wanted,
                                  double tolerance) {
  if (found.rows != wanted.rows || found.cols != wanted.cols) {
    return testing::AssertionFailure() << "the shapes differ";
  }
  double worst = -1;
  int64_t worst_row = 0;
  int64_t worst_col = 0;
  for (int64_t row = 0; row < found.rows; ++row) {
    for (int64_t col = 0; col < found.cols; ++col) {
      const double difference =
          Difference(found.row(row)[col], wanted.row(row)[col]);
      if (difference > worst) {
        worst = difference;
        worst_row = row;
        worst_col = col;
      }
    }
  }
  if (worst <= tolerance) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "row " << worst_row << " col " << worst_col << " is "
         << found.row(worst_row)[worst_col] << ", want "
         << wanted.row(worst_row)[worst_col] << " +- " << tolerance;
}

testing::AssertionResult IdenticalRows(ConstRows found, ConstRows wanted) {
  if (found.rows != wanted.rows || found.cols != wanted.cols) {
    return testing::AssertionFailure() << "the shapes differ";
  }
  for (int64_t row = 0; row < found.rows; ++row) {
    for (int64_t col = 0; col < found.cols; ++col) {
      const float a = found.row(row)[col];
      const float b = wanted.row(row)[col];
      if (!SameBits(a, b)) {
        return testing::AssertionFailure()
               << "row " << row << " col " << col << " is " << a << ", want "
               << b << ", which differs by " << a - b;
      }
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace

testing::AssertionResult Near(const Operand& found, const Operand& wanted,
                              double tolerance) {
  return NearRows(found.view(), wanted.view(), tolerance);
}

testing::AssertionResult Near(const std::vector<float>& found,
                              const std::vector<float>& wanted,
                              double tolerance) {
  return NearRows(OneRow(found), OneRow(wanted), tolerance);
}

testing::AssertionResult Identical(const Operand& found,
                                   const Operand& wanted) {
  return IdenticalRows(found.view(), wanted.view());
}

testing::AssertionResult Identical(const std::vector<float>& found,
                                   const std::vector<float>& wanted) {
  return IdenticalRows(OneRow(found), OneRow(wanted));
}

std::unique_ptr<const Matrix> Prepare(Backend& backend, int64_t out, int64_t in,
                                      const std::vector<float>& values) {
  MNEME_CHECK(static_cast<int64_t>(values.size()) == out * in);
  absl::StatusOr<std::unique_ptr<const Matrix>> matrix = backend.PrepareMatrix(
      {.data = values.data(), .dtype = DType::kF32, .shape = {out, in}});
  MNEME_CHECK(matrix.ok());
  return *std::move(matrix);
}

const char* PathName(ComputePath path) {
  return path == ComputePath::kBlock ? "block path" : "step path";
}

ConformanceTest::ConformanceTest() : reference_(MakeReferenceBackend()) {
  UseTarget(GetParam());
  for (int threads = 1; threads <= kMaxThreads; ++threads) {
    cpu_.push_back(MakeCpuBackend(threads));
  }
}

ConformanceTest::~ConformanceTest() { hwy::SetSupportedTargetsForTest(0); }

std::vector<int64_t> CompiledTargets() {
  std::vector<int64_t> compiled;
  const int64_t supported = hwy::SupportedTargets();
  for (int bit = 0; bit < 63; ++bit) {
    const int64_t target = int64_t{1} << bit;
    if ((supported & target) == 0) continue;
    UseTarget(target);
    const std::string level = MakeCpuBackend(1)->arithmetic_level();
    const std::string name = hwy::TargetName(target);
    if (level.compare(0, name.size() + 1, name + " ") == 0) {
      compiled.push_back(target);
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  return compiled;
}

std::string TargetTestName(const testing::TestParamInfo<int64_t>& info) {
  return hwy::TargetName(info.param);
}

}  // namespace mneme
