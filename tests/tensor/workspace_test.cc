// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/workspace.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "gtest/gtest.h"

namespace mneme {
namespace {

uintptr_t Address(const float* p) { return reinterpret_cast<uintptr_t>(p); }

TEST(WorkspaceTest, PiecesAreOnCacheLinesAndDoNotOverlap) {
  Workspace workspace(1 << 16);
  ASSERT_TRUE(workspace.ok());
  const float* last_end = nullptr;
  for (const int64_t count : {1, 16, 17, 100, 1}) {
    const float* piece = workspace.Floats(count);
    EXPECT_EQ(Address(piece) % AlignedBuffer::kAlignment, 0u);
    EXPECT_GE(piece, last_end);
    last_end = piece + count;
  }
}

TEST(WorkspaceTest, TakesExactlyTheBytesItStates) {
  for (const int64_t count : {0, 1, 15, 16, 17, 1000}) {
    Workspace workspace(Workspace::FloatsBytes(count));
    EXPECT_EQ(workspace.bytes(), Workspace::FloatsBytes(count));
    workspace.Floats(count);
  }
  for (const int64_t cols : {1, 16, 100, 1024}) {
    Workspace workspace(Workspace::MatrixBytes(5, cols));
    const Rows matrix = workspace.Matrix(5, cols);
    EXPECT_EQ(matrix.rows, 5);
    EXPECT_EQ(matrix.cols, cols);
    EXPECT_EQ(matrix.stride, PaddedStride(cols));
    std::fill_n(matrix.row(4), matrix.stride, 1.0f);
  }
}

TEST(WorkspaceTest, AFrameGivesBackWhatWasTakenSinceItBegan) {
  Workspace workspace(Workspace::FloatsBytes(16) * 2);
  const float* outer = workspace.Floats(16);
  const float* inner = nullptr;
  {
    const Workspace::Frame frame(workspace);
    inner = workspace.Floats(16);
    EXPECT_NE(inner, outer);
  }
  EXPECT_EQ(workspace.Floats(16), inner);
}

TEST(WorkspaceTest, FramesNest) {
  Workspace workspace(1 << 12);
  const Workspace::Frame outer(workspace);
  workspace.Floats(16);
  const float* second = nullptr;
  {
    const Workspace::Frame middle(workspace);
    second = workspace.Floats(16);
    {
      const Workspace::Frame inner(workspace);
      workspace.Floats(64);
    }
    EXPECT_EQ(workspace.Floats(16), second + 16);
  }
  EXPECT_EQ(workspace.Floats(16), second);
}

TEST(WorkspaceDeathTest, TakingMoreThanThereIsEndsTheProgram) {
  Workspace workspace(Workspace::FloatsBytes(16));
  workspace.Floats(16);
  EXPECT_DEATH(workspace.Floats(1), "check failed");
}

#ifndef NDEBUG
TEST(WorkspaceTest, FreshMemoryIsNanInDebugBuilds) {
  Workspace workspace(1 << 12);
  for (int round = 0; round < 2; ++round) {
    const Workspace::Frame frame(workspace);
    float* floats = workspace.Floats(100);
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(std::isnan(floats[i])) << "float " << i;
      floats[i] = 1.0f;
    }
  }
}
#endif

}  // namespace
}  // namespace mneme
