// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the operations share: operands to compute with, and a
// fixture that runs each test on every instruction set of this machine that
// the kernels were compiled for.
//
// Three things are asked of every operation of the cpu backend: that it agrees
// with the reference backend to rounding, that the number of threads changes
// no bit, and on the step path that a row's result is the same bits whatever
// rows are beside it.
#ifndef MNEME_TESTS_OPS_CONFORMANCE_H_
#define MNEME_TESTS_OPS_CONFORMANCE_H_

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/ops/backend.h"
#include "engine/tensor/tensor.h"
#include "gtest/gtest.h"

namespace mneme {

using Random = std::mt19937;

// Numbers evenly from [-size, size).
std::vector<float> RandomValues(int64_t count, float size, Random& random);

// A matrix that owns its numbers, laid out as an operand of either path: a
// padded stride, and room for whole blocks of rows. NaN wherever nothing was
// written, so that what should not be read shows.
class Operand {
 public:
  Operand() = default;
  Operand(int64_t rows, int64_t cols);
  Operand(const Operand& other);
  Operand& operator=(const Operand& other);
  Operand(Operand&&) = default;
  Operand& operator=(Operand&&) = default;

  // Numbers evenly from [-size, size).
  static Operand Uniform(int64_t rows, int64_t cols, float size,
                         Random& random);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  Rows view() { return {data(), rows_, cols_, stride_}; }
  ConstRows view() const { return {data(), rows_, cols_, stride_}; }
  float& at(int64_t row, int64_t col) { return data()[row * stride_ + col]; }
  float at(int64_t row, int64_t col) const {
    return data()[row * stride_ + col];
  }

  // Overwrites the rows behind the last, which a block reads and ignores.
  void FillRoomBehind(float value);

  // `count` rows from `first`, as an operand of their own.
  Operand Slice(int64_t first, int64_t count) const;
  // These rows, in this order; a row may come more than once.
  Operand Pick(const std::vector<int64_t>& rows) const;

 private:
  float* data() { return reinterpret_cast<float*>(buffer_.data()); }
  const float* data() const {
    return reinterpret_cast<const float*>(buffer_.data());
  }

  int64_t rows_ = 0;
  int64_t cols_ = 0;
  int64_t stride_ = 0;
  AlignedBuffer buffer_;
};

// The same values, to a tolerance; tells of the worst cell.
testing::AssertionResult Near(const Operand& found, const Operand& wanted,
                              double tolerance);
testing::AssertionResult Near(const std::vector<float>& found,
                              const std::vector<float>& wanted,
                              double tolerance);

// The same bits.
testing::AssertionResult Identical(const Operand& found, const Operand& wanted);
testing::AssertionResult Identical(const std::vector<float>& found,
                                   const std::vector<float>& wanted);

// A random weight matrix prepared by a backend.
std::unique_ptr<const Matrix> Prepare(Backend& backend, int64_t out, int64_t in,
                                      const std::vector<float>& values);

const char* PathName(ComputePath path);
inline constexpr ComputePath kBothPaths[] = {ComputePath::kBlock,
                                             ComputePath::kStep};

// Runs on one instruction set.
class ConformanceTest : public testing::TestWithParam<int64_t> {
 protected:
  ConformanceTest();
  ~ConformanceTest() override;

  Backend& reference() { return *reference_; }
  // With `threads` workers, 1 to kMaxThreads.
  Backend& cpu(int threads = 1) { return *cpu_[threads - 1]; }

  static constexpr int kMaxThreads = 3;

 private:
  std::unique_ptr<Backend> reference_;
  std::vector<std::unique_ptr<Backend>> cpu_;
};

// The instruction sets that ConformanceTest can run on, as bits of Highway's.
std::vector<int64_t> CompiledTargets();
std::string TargetTestName(const testing::TestParamInfo<int64_t>& info);

}  // namespace mneme

#endif  // MNEME_TESTS_OPS_CONFORMANCE_H_
