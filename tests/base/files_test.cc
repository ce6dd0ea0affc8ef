// SPDX-License-Identifier: Apache-2.0
#include "engine/base/files.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

TEST(ReadSmallFileTest, AFileOfAtMostTheLimitIsRead) {
  const TempDir dir;
  const std::string path = dir.File("file");
  WriteFile(path, std::string("a\0b", 3));
  const absl::StatusOr<std::string> found = ReadSmallFile(path, 3);
  ASSERT_THAT(found, IsOk());
  EXPECT_EQ(*found, std::string("a\0b", 3));
  EXPECT_THAT(ReadSmallFile(path, 2),
              Fails(absl::StatusCode::kInvalidArgument,
                    path + ": 3 bytes, want at most 2"));
}

TEST(ReadSmallFileTest, WhatIsNoFileIsNamed) {
  const TempDir dir;
  EXPECT_THAT(ReadSmallFile(dir.File("none"), 9),
              Fails(absl::StatusCode::kNotFound, dir.File("none")));
  EXPECT_THAT(ReadSmallFile(dir.path(), 9),
              Fails(absl::StatusCode::kInvalidArgument, dir.path()));
}

}  // namespace
}  // namespace mneme
