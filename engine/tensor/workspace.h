// SPDX-License-Identifier: Apache-2.0
//
// Scratch memory of a pass over the model: one block, sized when the model is
// loaded, handed out by moving a mark and taken back by moving it back. No
// allocation happens while tokens are computed.
#ifndef MNEME_ENGINE_TENSOR_WORKSPACE_H_
#define MNEME_ENGINE_TENSOR_WORKSPACE_H_

#include <cstdint>

#include "engine/base/check.h"
#include "engine/tensor/tensor.h"

namespace mneme {

// Not thread-safe.
class Workspace {
 public:
  // Bytes that Floats(count) takes, padding included.
  static int64_t FloatsBytes(int64_t count) {
    return (count * 4 + AlignedBuffer::kAlignment - 1) /
           AlignedBuffer::kAlignment * AlignedBuffer::kAlignment;
  }
  // Bytes that Matrix(rows, cols) takes.
  static int64_t MatrixBytes(int64_t rows, int64_t cols) {
    return FloatsBytes(rows * PaddedStride(cols));
  }

  explicit Workspace(int64_t bytes) : buffer_(bytes) {}

  // False if the memory was refused; then nothing may be taken from it.
  bool ok() const { return static_cast<bool>(buffer_); }
  int64_t bytes() const { return buffer_.bytes(); }

  // `count` floats on a cache-line boundary, alive until the enclosing Frame
  // ends. Debug builds fill them with NaN. REQUIRES: they fit.
  float* Floats(int64_t count);

  // A [rows, cols] matrix with a padded stride. Same lifetime.
  Rows Matrix(int64_t rows, int64_t cols) {
    const int64_t stride = PaddedStride(cols);
    return Rows{Floats(rows * stride), rows, cols, stride};
  }

  // Gives back on destruction what was taken since construction.
  class Frame {
   public:
    explicit Frame(Workspace& workspace)
        : workspace_(workspace), mark_(workspace.used_) {}
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;
    ~Frame() { workspace_.used_ = mark_; }

   private:
    Workspace& workspace_;
    const int64_t mark_;
  };

 private:
  AlignedBuffer buffer_;
  int64_t used_ = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_TENSOR_WORKSPACE_H_
