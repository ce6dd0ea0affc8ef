// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/tensor.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using testing::Each;

TEST(PaddedStrideTest, HoldsARowInWholeCacheLinesAndIsNeverAPage) {
  for (int64_t cols = 1; cols <= 70000; ++cols) {
    const int64_t stride = PaddedStride(cols);
    ASSERT_GE(stride, cols);
    ASSERT_EQ(stride % 16, 0) << cols;
    ASSERT_NE(stride * 4 % 4096, 0) << cols;
    ASSERT_LT(stride, cols + 32) << cols;
  }
}

TEST(PaddedStrideTest, AWidthThatFitsIsItsOwnStride) {
  EXPECT_EQ(PaddedStride(16), 16);
  EXPECT_EQ(PaddedStride(768), 768);
  EXPECT_EQ(PaddedStride(1024), 1040);
}

TEST(ShapeTest, ElementsAreTheProductOfTheDimensions) {
  EXPECT_EQ(ElementCount({}), 1);
  EXPECT_EQ(ElementCount({7}), 7);
  EXPECT_EQ(ElementCount({3, 16, 5}), 240);
  EXPECT_EQ(ElementCount({3, 0, 5}), 0);
  EXPECT_EQ(ElementCount({int64_t{1} << 31, 4}), int64_t{1} << 33);
}

TEST(ShapeTest, IsWrittenInBrackets) {
  EXPECT_EQ(ShapeString({}), "[]");
  EXPECT_EQ(ShapeString({3, 16, 1}), "[3,16,1]");
}

TEST(TensorViewTest, BytesAreElementsTimesTheirSize) {
  const TensorView view{.dtype = DType::kBF16, .shape = {3, 5}};
  EXPECT_EQ(view.elements(), 15);
  EXPECT_EQ(view.bytes(), 30);
}

TEST(TensorTest, ANewTensorIsZeros) {
  const Tensor tensor({3, 5});
  EXPECT_EQ(tensor.shape(), (Shape{3, 5}));
  EXPECT_EQ(tensor.values().size(), 15u);
  EXPECT_THAT(tensor.values(), Each(0.0f));
  EXPECT_FALSE(tensor.empty());
  EXPECT_TRUE(Tensor().empty());
}

TEST(RowsTest, RowsLieAStrideApart) {
  float values[12] = {};
  const Rows rows{values, 3, 2, 4};
  EXPECT_EQ(rows.row(2), values + 8);
  const ConstRows read = rows;
  EXPECT_EQ(read.row(1), values + 4);
  EXPECT_EQ(read.rows, 3);
  EXPECT_EQ(read.cols, 2);
}

TEST(AlignedBufferTest, BeginsOnACacheLineWithALineOfSlackBehind) {
  for (const Pages pages : {Pages::kNormal, Pages::kHuge}) {
    for (const int64_t bytes : {0, 1, 63, 64, 65, 4096, 3 << 20}) {
      AlignedBuffer buffer(bytes, pages);
      ASSERT_TRUE(buffer);
      EXPECT_EQ(buffer.bytes(), bytes);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) %
                    AlignedBuffer::kAlignment,
                0u);
      std::memset(buffer.data(), 1, bytes + AlignedBuffer::kAlignment);
    }
  }
}

TEST(AlignedBufferTest, IsZeroOnACacheLineIfThatIsWanted) {
  for (const int64_t bytes : {0, 1, 63, 64, 65, 4096, 3 << 20}) {
    // Twice: the second may get what the first gave back.
    for (int round = 0; round < 2; ++round) {
      AlignedBuffer buffer = AlignedBuffer::Zeroed(bytes);
      ASSERT_TRUE(buffer);
      EXPECT_EQ(buffer.bytes(), bytes);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) %
                    AlignedBuffer::kAlignment,
                0u);
      EXPECT_EQ(std::count(buffer.data(), buffer.data() + bytes, 0), bytes);
      std::memset(buffer.data(), 1, bytes + AlignedBuffer::kAlignment);
    }
  }
}

TEST(AlignedBufferTest, NoBufferIsFalse) { EXPECT_FALSE(AlignedBuffer()); }

TEST(AlignedBufferTest, MemoryThatIsRefusedLeavesNothing) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer ends the program instead of refusing memory";
#endif
  // More than any address space holds.
  EXPECT_FALSE(AlignedBuffer(int64_t{1} << 60));
  EXPECT_FALSE(AlignedBuffer::Zeroed(int64_t{1} << 60));
}

TEST(AlignedBufferTest, MovingKeepsTheBytesWhereTheyAre) {
  AlignedBuffer first(64);
  const char* data = first.data();
  const AlignedBuffer second = std::move(first);
  EXPECT_EQ(second.data(), data);
}

}  // namespace
}  // namespace mneme
