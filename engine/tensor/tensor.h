// SPDX-License-Identifier: Apache-2.0
//
// Three names for three ownerships: TensorView points at bytes that something
// else owns (a mapped file), Tensor owns f32 numbers, and Rows/ConstRows are
// the row-major matrices that the operations read and write.
#ifndef MNEME_ENGINE_TENSOR_TENSOR_H_
#define MNEME_ENGINE_TENSOR_TENSOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "engine/tensor/dtype.h"

namespace mneme {

using Shape = std::vector<int64_t>;

// "[3,16,16]"
std::string ShapeString(absl::Span<const int64_t> shape);

// Product of the dimensions; 1 for a scalar.
int64_t ElementCount(absl::Span<const int64_t> shape);

// A dense row-major array somewhere. The bytes may lie at any address.
struct TensorView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  int64_t elements() const { return ElementCount(shape); }
  int64_t bytes() const { return elements() * DTypeBytes(dtype); }
};

enum class Pages { kNormal, kHuge };

// Memory on a cache-line boundary with a line of slack behind it, so that a
// vector load that starts inside stays inside. kHuge is for what is read from
// end to end again and again: it asks for huge pages, a hint without which
// everything works a little slower. Contents are not initialised.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(int64_t bytes, Pages pages = Pages::kNormal);
  // One that is all zero. What is large takes memory only where it is touched.
  static AlignedBuffer Zeroed(int64_t bytes);

  char* data() { return data_.get(); }
  const char* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }
  explicit operator bool() const { return data_ != nullptr; }

  static constexpr int64_t kAlignment = 64;

 private:
  struct Free {
    Free() : allocated(nullptr) {}
    explicit Free(char* begin) : allocated(begin) {}
    void operator()(char* data) const;
    char* allocated;  // null: what is freed is the data
  };
  std::unique_ptr<char, Free> data_;  // null if memory was refused
  int64_t bytes_ = 0;
};

// An owned dense f32 array: the small parameters of a model.
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(Shape shape)
      : shape_(std::move(shape)), values_(ElementCount(shape_)) {}

  const Shape& shape() const { return shape_; }
  absl::Span<const float> values() const { return values_; }
  absl::Span<float> mutable_values() { return absl::MakeSpan(values_); }
  const float* data() const { return values_.data(); }
  bool empty() const { return values_.empty(); }

 private:
  Shape shape_;
  std::vector<float> values_;
};

// A row-major f32 matrix that something else owns; `stride` floats from one
// row to the next.
struct Rows {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  float* row(int64_t i) const { return data + i * stride; }
};

struct ConstRows {
  const float* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  ConstRows() = default;
  ConstRows(const float* data_in, int64_t rows_in, int64_t cols_in,
            int64_t stride_in)
      : data(data_in), rows(rows_in), cols(cols_in), stride(stride_in) {}
  ConstRows(const Rows& m)  // NOLINT: a Rows is a ConstRows
      : data(m.data), rows(m.rows), cols(m.cols), stride(m.stride) {}

  const float* row(int64_t i) const { return data + i * stride; }
};

// The stride, in floats, for rows of `cols` floats: whole cache lines, and
// never a multiple of 4 KiB, at which the rows of a panel would fight for the
// same lines of a set-associative cache.
inline int64_t PaddedStride(int64_t cols) {
  const int64_t stride = (cols + 15) / 16 * 16;
  return stride % 1024 == 0 ? stride + 16 : stride;
}

}  // namespace mneme

#endif  // MNEME_ENGINE_TENSOR_TENSOR_H_
