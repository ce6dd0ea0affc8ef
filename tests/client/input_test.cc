// SPDX-License-Identifier: Apache-2.0
#include "client/input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace mneme::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class InputTest : public testing::Test {
 protected:
  std::unique_ptr<Input> OpenFile(const std::string& content) {
    const std::string path = testing::TempDir() + "mneme_input_test";
    std::ofstream(path, std::ios::binary) << content;
    auto input = Input::Open({path}, [this] { return stopped_; });
    std::filesystem::remove(path);
    return *std::move(input);
  }

  bool stopped_ = false;
};

TEST_F(InputTest, AFileIsReadInPiecesToItsEnd) {
  const auto input = OpenFile("abcdefg");
  EXPECT_EQ(input->size(), 7);
  EXPECT_EQ(*input->Read(4), "abcd");
  EXPECT_EQ(*input->Read(4), "efg");
  EXPECT_EQ(*input->Read(4), "");
}

TEST_F(InputTest, FilesFollowEachOtherWithSomethingBetween) {
  const std::string folder = testing::TempDir();
  std::vector<std::string> paths;
  for (const char* content : {"12", "", "34"}) {
    paths.push_back(folder + "mneme_input_test" + std::to_string(paths.size()));
    std::ofstream(paths.back(), std::ios::binary) << content;
  }
  const auto plain = *Input::Open(paths, [] { return false; });
  EXPECT_EQ(plain->size(), 4);
  std::string all;
  while (true) {
    const auto piece = plain->Read(9);
    ASSERT_TRUE(piece.ok()) << piece.status();
    if (piece->empty()) break;
    all += *piece;
  }
  EXPECT_EQ(all, "1234");

  const auto ids = *Input::Open(
      paths, [] { return false; }, "\n");
  TokenReader tokens(ids.get());
  EXPECT_THAT(*tokens.Read(1), ElementsAre(12));
  EXPECT_THAT(*tokens.Read(1), ElementsAre(34));
  for (const std::string& path : paths) std::filesystem::remove(path);
}

TEST_F(InputTest, AMissingFileIsNotFound) {
  const auto input = Input::Open({"no/such/file"}, [] { return false; });
  EXPECT_EQ(input.status().code(), absl::StatusCode::kNotFound);
}

TEST_F(InputTest, AStoppedReadIsCancelled) {
  const auto input = OpenFile("abc");
  stopped_ = true;
  EXPECT_EQ(input->Read(1).status().code(), absl::StatusCode::kCancelled);
}

TEST_F(InputTest, TokensAreWholeWhateverTheLimit) {
  const auto input = OpenFile(" 1 22\n333\t4444  ");
  TokenReader tokens(input.get());
  EXPECT_THAT(*tokens.Read(3), ElementsAre(1, 22, 333));
  EXPECT_THAT(*tokens.Read(3), ElementsAre(4444));
  EXPECT_THAT(*tokens.Read(3), IsEmpty());
}

TEST_F(InputTest, ManyTokensCrossTheReadersPieces) {
  std::string text;
  for (int id = 0; id < 50'000; ++id) text += std::to_string(id) + " ";
  const auto input = OpenFile(text);
  TokenReader tokens(input.get());
  int32_t expected = 0;
  while (true) {
    const auto ids = tokens.Read(777);
    ASSERT_TRUE(ids.ok()) << ids.status();
    if (ids->empty()) break;
    for (const int32_t id : *ids) ASSERT_EQ(id, expected++);
  }
  EXPECT_EQ(expected, 50'000);
}

TEST_F(InputTest, SpaceWithoutEndAndDigitsWithoutEndAreNotHoarded) {
  const auto spaces = OpenFile(std::string(1 << 20, ' ') + "7");
  TokenReader tokens(spaces.get());
  EXPECT_THAT(*tokens.Read(3), ElementsAre(7));
  const auto digits = OpenFile(std::string(1 << 20, '0') + "7");
  TokenReader endless(digits.get());
  EXPECT_EQ(endless.Read(3).status().code(),
            absl::StatusCode::kInvalidArgument);
  // It gave up early: most of the file was not read.
  EXPECT_EQ(digits->Read(1 << 19)->size(), size_t{1} << 19);
}

TEST(ParseTokensTest, RefusesWhatIsNoTokenId) {
  EXPECT_THAT(*ParseTokens(""), IsEmpty());
  EXPECT_THAT(*ParseTokens("0 2147483647"), ElementsAre(0, 2147483647));
  for (const char* text : {"-1", "x", "1.5", "2147483648", "1,2"}) {
    EXPECT_EQ(ParseTokens(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

}  // namespace
}  // namespace mneme::client
