// SPDX-License-Identifier: Apache-2.0
#include "engine/model/checkpoint.h"

#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using testing::AllOf;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kNotFound = absl::StatusCode::kNotFound;

// "a" in 1.safetensors, "b" and "c" in 2.safetensors, as the index says.
class ShardsTest : public testing::Test {
 protected:
  ShardsTest() {
    WriteShard("1.safetensors", {"a"});
    WriteShard("2.safetensors", {"b", "c"});
    WriteIndex(
        R"("a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors")");
  }

  void WriteShard(const std::string& file,
                  const std::vector<std::string>& names) {
    std::vector<NamedTensor> tensors;
    tensors.reserve(names.size());
    for (const std::string& name : names) {
      tensors.push_back({name, {.data = &value_, .shape = {1}}});
    }
    ASSERT_THAT(WriteSafetensors(dir_.File(file), tensors), IsOk());
  }
  void WriteIndex(const std::string& map) {
    WriteFile(index_path(), "{\"weight_map\": {" + map + "}}");
  }
  std::string index_path() const {
    return dir_.File("model.safetensors.index.json");
  }
  absl::StatusOr<Checkpoint> Open() { return Checkpoint::Open(dir_.path()); }

  const TempDir dir_;
  const float value_ = 7.0f;
};

TEST_F(ShardsTest, TheTensorsOfAllShardsAreThere) {
  absl::StatusOr<Checkpoint> opened = Open();
  ASSERT_THAT(opened, IsOk());
  const Checkpoint moved = *std::move(opened);
  ASSERT_EQ(moved.tensors().size(), 3u);
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_EQ(*static_cast<const float*>(moved.tensors().at(name).data), 7.0f);
  }
}

TEST_F(ShardsTest, AShardMayBeALink) {
  const TempDir elsewhere;
  std::filesystem::rename(dir_.File("1.safetensors"), elsewhere.File("blob"));
  std::filesystem::create_symlink(elsewhere.File("blob"),
                                  dir_.File("1.safetensors"));
  EXPECT_THAT(Open(), IsOk());
}

TEST_F(ShardsTest, AMissingShardIsNamed) {
  ASSERT_EQ(std::remove(dir_.File("2.safetensors").c_str()), 0);
  EXPECT_THAT(Open(), Fails(kNotFound, dir_.File("2.safetensors")));
}

TEST_F(ShardsTest, ATensorThatItsShardLacksIsNamed) {
  WriteShard("2.safetensors", {"b"});
  EXPECT_THAT(Open(), Fails(kInvalid, "\"c\" is missing in 2.safetensors"));
}

TEST_F(ShardsTest, ATensorInTwoShardsIsNamedWithBoth) {
  WriteShard("2.safetensors", {"a", "b", "c"});
  EXPECT_THAT(Open(), AllOf(Fails(kInvalid, "\"a\" is in 2.safetensors"),
                            Fails(kInvalid, "puts it in 1.safetensors")));
}

TEST_F(ShardsTest, ATensorThatTheIndexDoesNotNameIsRefused) {
  WriteShard("1.safetensors", {"a", "extra"});
  EXPECT_THAT(Open(), AllOf(Fails(kInvalid, "\"extra\" is in 1.safetensors"),
                            Fails(kInvalid, "does not name it")));
}

TEST_F(ShardsTest, EveryShardIsChecked) {
  const std::string whole = ReadFile(dir_.File("2.safetensors"));
  WriteFile(dir_.File("2.safetensors"), whole.substr(0, whole.size() - 1));
  EXPECT_THAT(Open(), Fails(kInvalid, dir_.File("2.safetensors")));
}

TEST_F(ShardsTest, AWrongOrTooLargeIndexIsNamed) {
  WriteIndex(R"("a": "../1.safetensors")");
  EXPECT_THAT(Open(), AllOf(Fails(kInvalid, index_path()),
                            Fails(kInvalid, "\"../1.safetensors\"")));
  WriteFile(index_path(), std::string((16 << 20) + 1, ' '));
  EXPECT_THAT(Open(), Fails(kInvalid, "16777217 bytes"));
}

TEST_F(ShardsTest, BothFormsAtOnceAreRefused) {
  WriteShard("model.safetensors", {"a"});
  EXPECT_THAT(Open(), AllOf(Fails(kInvalid, "model.safetensors and "),
                            Fails(kInvalid, "model.safetensors.index.json")));
  ASSERT_EQ(std::remove(index_path().c_str()), 0);
  ASSERT_THAT(Open(), IsOk());
  EXPECT_EQ(Open()->tensors().size(), 1u);
}

}  // namespace
}  // namespace mneme
