// SPDX-License-Identifier: Apache-2.0
#include "server/names.h"

#include "engine/base/resource_id.h"
#include "gtest/gtest.h"

namespace mneme::server {
namespace {

TEST(NamesTest, NamesReadBack) {
  EXPECT_EQ(*ParseSessionName(SessionName("alice"), "name"), "alice");
  EXPECT_EQ(*ParseModelName(ModelName("tiny"), "name"), "tiny");
}

TEST(NamesTest, OtherNamesAreRefused) {
  for (const char* name :
       {"", "alice", "sessions/", "models/alice", "sessions/a/b", "sessions//a",
        "/sessions/a", "Sessions/a", "sessions/a ", "sessions/a\n"}) {
    EXPECT_EQ(ParseSessionName(name, "name").status().code(),
              absl::StatusCode::kInvalidArgument)
        << name;
  }
}

TEST(PageTokenTest, ATokenReadsBackInItsOwnListingOnly) {
  const std::string token = EncodePageToken(
      {.collection = "sessions", .filter = "x", .after = "alice"});
  EXPECT_EQ(*DecodePageToken(token, "sessions", "x"), "alice");
  EXPECT_FALSE(DecodePageToken(token, "sessions", "y").ok());
  EXPECT_FALSE(DecodePageToken(token, "models", "x").ok());
  EXPECT_EQ(*DecodePageToken("", "sessions", "x"), "");
}

TEST(PageTokenTest, DamagedTokensAreRefused) {
  const std::string token =
      EncodePageToken({.collection = "sessions", .filter = "", .after = "a"});
  for (size_t length = 1; length < token.size(); ++length) {
    EXPECT_FALSE(DecodePageToken(token.substr(0, length), "sessions", "").ok())
        << length;
  }
  EXPECT_FALSE(DecodePageToken("!", "sessions", "").ok());
}

TEST(PageSizeTest, SizesAreCoercedAndNeverNegative) {
  EXPECT_EQ(*PageSize(0), 100);
  EXPECT_EQ(*PageSize(7), 7);
  EXPECT_EQ(*PageSize(100000), 1000);
  EXPECT_EQ(PageSize(-1).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mneme::server
