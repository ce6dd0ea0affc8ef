// SPDX-License-Identifier: Apache-2.0
#include "engine/model/shard_index.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Pair;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(ShardIndexTest, TensorsHaveTheirFiles) {
  const absl::StatusOr<ShardIndex> index = ParseShardIndex(
      R"({"metadata": {"total_size": 12}, "weight_map": {
          "b": "model-00001-of-00002.safetensors",
          "a": "model-00002-of-00002.safetensors"}})");
  ASSERT_THAT(index, IsOk());
  EXPECT_THAT(*index,
              ElementsAre(Pair("a", "model-00002-of-00002.safetensors"),
                          Pair("b", "model-00001-of-00002.safetensors")));
}

TEST(ShardIndexTest, AFileOutsideTheFolderIsRefusedByName) {
  for (const char* file :
       {"../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors",
        "./x.safetensors", ".safetensors", "", "x.bin", "..",
        "x\\u0000.safetensors"}) {
    EXPECT_THAT(ParseShardIndex(absl::StrCat(
                    R"({"weight_map": {"the tensor": ")", file, "\"}}")),
                AllOf(Fails(kInvalid, "\"the tensor\" is in \""),
                      Fails(kInvalid, "want a file name")))
        << file;
  }
  EXPECT_THAT(
      ParseShardIndex(absl::StrCat(R"({"weight_map": {"t": ")",
                                   std::string(300, 'x'), ".safetensors\"}}")),
      Fails(kInvalid, "want a file name"));
  EXPECT_THAT(ParseShardIndex(R"({"weight_map": {"t": 3}})"),
              Fails(kInvalid, "\"t\" is in 3"));
}

TEST(ShardIndexTest, OtherFormsAreRefusedByName) {
  EXPECT_THAT(ParseShardIndex("{}"),
              Fails(kInvalid, "\"weight_map\" is missing"));
  EXPECT_THAT(ParseShardIndex(R"({"weight_map": {}})"),
              Fails(kInvalid, "\"weight_map\" is {}"));
  EXPECT_THAT(ParseShardIndex(R"({"weight_map": []})"),
              Fails(kInvalid, "\"weight_map\" is []"));
  EXPECT_THAT(ParseShardIndex(R"({"weight_maps": {}})"),
              Fails(kInvalid, "unknown key \"weight_maps\""));
  EXPECT_THAT(ParseShardIndex("[]"), Fails(kInvalid, "not a JSON object"));
  EXPECT_THAT(
      ParseShardIndex(
          R"({"weight_map": {"t": "a.safetensors", "t": "b.safetensors"}})"),
      Fails(kInvalid, "stands twice"));
  std::string deep;
  for (int i = 0; i < 20; ++i) deep += "{\"metadata\":";
  EXPECT_THAT(ParseShardIndex(deep + "1" + std::string(20, '}')),
              Fails(kInvalid, "levels deep"));
}

}  // namespace
}  // namespace mneme
