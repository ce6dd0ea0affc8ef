// SPDX-License-Identifier: Apache-2.0
#include "engine/model/safetensors.h"

#include <sys/stat.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/coding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using testing::AllOf;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::string Length(uint64_t bytes) {
  std::string length(8, '\0');
  EncodeFixed64(bytes, length.data());
  return length;
}

// A file of this header and these data.
std::string File(const std::string& header, const std::string& data) {
  return Length(header.size()) + header + data;
}

// "name": an F32 entry of this shape over these bytes.
std::string Entry(const std::string& name, const std::string& shape,
                  const std::string& offsets, const char* dtype = "F32") {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"", dtype,
                      "\",\"shape\":", shape, ",\"data_offsets\":", offsets,
                      "}");
}

absl::StatusOr<TensorMap> Parse(const std::string& file) {
  return ParseSafetensors(absl::MakeConstSpan(file.data(), file.size()));
}

absl::StatusOr<TensorMap> Parse(const std::string& entries, int64_t bytes) {
  return Parse(File("{" + entries + "}", std::string(bytes, '\1')));
}

std::string TwoTensors() {
  std::string data(20, '\0');
  for (int i = 0; i < 20; ++i) data[i] = static_cast<char>(i);
  return File("{" + Entry("a", "[2,2]", "[0,16]") + "," +
                  Entry("b", "[4]", "[16,20]", "U8") + "}",
              data);
}

TEST(ParseSafetensorsTest, ViewsPointAtTheTensorsBytes) {
  const std::string file = TwoTensors();
  const absl::StatusOr<TensorMap> tensors = Parse(file);
  ASSERT_THAT(tensors, IsOk());
  ASSERT_EQ(tensors->size(), 2u);
  const TensorView& a = tensors->at("a");
  EXPECT_EQ(a.dtype, DType::kF32);
  EXPECT_EQ(a.shape, (Shape{2, 2}));
  EXPECT_EQ(a.data, file.data() + file.size() - 20);
  const TensorView& b = tensors->at("b");
  EXPECT_EQ(b.dtype, DType::kU8);
  EXPECT_EQ(b.shape, (Shape{4}));
  EXPECT_EQ(static_cast<const char*>(b.data)[3], 19);
}

TEST(ParseSafetensorsTest, TensorsMayBeScalarsEmptyOrNone) {
  EXPECT_THAT(Parse("", 0), IsOk());
  EXPECT_THAT(Parse(Entry("scalar", "[]", "[0,4]"), 4), IsOk());
  EXPECT_THAT(Parse(Entry("empty", "[3,0]", "[0,0]"), 0), IsOk());
  EXPECT_THAT(
      Parse(Entry("before", "[0]", "[0,0]") + "," + Entry("a", "[1]", "[0,4]") +
                "," + Entry("between", "[0]", "[4,4]") + "," +
                Entry("b", "[1]", "[4,8]") + "," +
                Entry("behind", "[0]", "[8,8]"),
            8),
      IsOk());
}

TEST(ParseSafetensorsTest, TheHeaderNamesTensorsInAnyOrder) {
  EXPECT_THAT(
      Parse(Entry("a", "[1]", "[4,8]") + "," + Entry("b", "[1]", "[0,4]"), 8),
      IsOk());
}

TEST(ParseSafetensorsTest, MetadataIsPassedOver) {
  const absl::StatusOr<TensorMap> tensors = Parse(
      "\"__metadata__\":{\"format\":\"pt\"}," + Entry("a", "[1]", "[0,4]"), 4);
  ASSERT_THAT(tensors, IsOk());
  EXPECT_EQ(tensors->size(), 1u);
}

TEST(ParseSafetensorsTest, AFileCutAtAnyByteIsRefused) {
  const std::string file = TwoTensors();
  for (size_t size = 0; size < file.size(); ++size) {
    // A buffer of its own, so that a sanitizer sees a read behind its end.
    const std::vector<char> cut(file.begin(), file.begin() + size);
    EXPECT_THAT(ParseSafetensors(cut), Fails(kInvalid, "")) << size << " bytes";
  }
}

TEST(ParseSafetensorsTest, BytesBehindTheTensorsAreRefused) {
  EXPECT_THAT(Parse(TwoTensors() + "x"), Fails(kInvalid, "20 of 21"));
  EXPECT_THAT(Parse("", 1), Fails(kInvalid, "0 of 1"));
}

TEST(ParseSafetensorsTest, AHeaderLongerThanTheFileOrTheFormatIsRefused) {
  const std::string rest(64, ' ');
  for (const uint64_t bytes :
       {uint64_t{65}, uint64_t{100'000'001}, uint64_t{1} << 32,
        uint64_t{1} << 63, UINT64_MAX - 7, UINT64_MAX}) {
    EXPECT_THAT(
        Parse(Length(bytes) + rest),
        AllOf(Fails(kInvalid, absl::StrCat(bytes)), Fails(kInvalid, "header")));
  }
}

TEST(ParseSafetensorsTest, AHeaderThatIsNoObjectIsRefused) {
  for (const char* header : {"", "null", "[]", "5", "\"a\"", "{", "{}}", "{]",
                             "{\"a\":}", "\xff\xfe", "{\"\xc3\":{}}"}) {
    EXPECT_THAT(Parse(File(header, "")), Fails(kInvalid, "not a JSON object"))
        << header;
  }
}

TEST(ParseSafetensorsTest, AnEntryThatIsNotOneIsRefusedByName) {
  for (const char* entry :
       {"5", "null", "[]", "\"F32\"", "{}", "{\"dtype\":\"F32\"}",
        "{\"dtype\":\"F32\",\"shape\":[1]}",
        "{\"shape\":[1],\"data_offsets\":[0,4]}",
        "{\"dtype\":\"F32\",\"data_offsets\":[0,4]}",
        "{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,4]}",
        "{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}",
        "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":4}",
        "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4]}",
        "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}",
        "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":0}"}) {
    EXPECT_THAT(Parse(absl::StrCat("\"name\":", entry), 4),
                Fails(kInvalid, "tensor \"name\""))
        << entry;
  }
}

TEST(ParseSafetensorsTest, AnUnknownDtypeIsNamed) {
  for (const char* dtype : {"F31", "f32", "", "F8_E4M3"}) {
    EXPECT_THAT(Parse(Entry("name", "[1]", "[0,4]", dtype), 4),
                AllOf(Fails(kInvalid, "tensor \"name\""),
                      Fails(kInvalid, absl::StrCat("\"", dtype, "\""))));
  }
}

TEST(ParseSafetensorsTest, NumbersThatAreNoCountsAreRefused) {
  for (const char* number : {"-1", "1.0", "1e0", "\"1\"", "null", "true", "[1]",
                             "-9223372036854775808", "9223372036854775808",
                             "18446744073709551615", "1e400"}) {
    EXPECT_THAT(
        Parse(Entry("name", absl::StrCat("[", number, "]"), "[0,4]"), 4),
        Fails(kInvalid, ""))
        << "dimension " << number;
    EXPECT_THAT(
        Parse(Entry("name", "[1]", absl::StrCat("[", number, ",4]")), 4),
        Fails(kInvalid, ""))
        << "begin " << number;
    EXPECT_THAT(
        Parse(Entry("name", "[1]", absl::StrCat("[0,", number, "]")), 4),
        Fails(kInvalid, ""))
        << "end " << number;
  }
}

TEST(ParseSafetensorsTest, AShapeWhoseBytesOverflowIsRefused) {
  for (const char* shape :
       {"[4611686018427387904]", "[9223372036854775807]",
        "[4294967296,4294967296]", "[2147483648,2147483648,2]",
        "[65536,65536,65536,65536]",
        "[1152921504606846976,4]"}) {  // 2^64 bytes, which wrap to 0
    EXPECT_THAT(Parse(Entry("name", shape, "[0,0]"), 0),
                AllOf(Fails(kInvalid, "tensor \"name\""),
                      Fails(kInvalid, "larger than any file")))
        << shape;
  }
}

TEST(ParseSafetensorsTest, AShapeOfManyDimensionsIsRefused) {
  EXPECT_THAT(Parse(Entry("name", "[1,1,1,1,1,1,1,1]", "[0,4]"), 4), IsOk());
  EXPECT_THAT(Parse(Entry("name", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4),
              Fails(kInvalid, "8 dimensions"));
}

TEST(ParseSafetensorsTest, OffsetsLieInTheFileAndInOrder) {
  EXPECT_THAT(Parse(Entry("name", "[2]", "[0,8]"), 4),
              AllOf(Fails(kInvalid, "tensor \"name\""),
                    Fails(kInvalid, "[0,8]"), Fails(kInvalid, "4 bytes")));
  EXPECT_THAT(Parse(Entry("name", "[1]", "[4,0]"), 4),
              Fails(kInvalid, "tensor \"name\""));
  EXPECT_THAT(Parse(Entry("name", "[0]", "[9,9]"), 4),
              Fails(kInvalid, "tensor \"name\""));
}

TEST(ParseSafetensorsTest, ATensorHasTheBytesOfItsShape) {
  EXPECT_THAT(Parse(Entry("name", "[2]", "[0,4]"), 4),
              AllOf(Fails(kInvalid, "span 4 bytes"),
                    Fails(kInvalid, "F32[2] wants 8")));
  EXPECT_THAT(Parse(Entry("name", "[1]", "[0,4]", "F64"), 4),
              Fails(kInvalid, "F64[1] wants 8"));
}

TEST(ParseSafetensorsTest, TensorsThatOverlapAreRefusedByName) {
  EXPECT_THAT(
      Parse(Entry("a", "[2]", "[0,8]") + "," + Entry("b", "[2]", "[4,12]"), 12),
      AllOf(Fails(kInvalid, "tensor \"b\""),
            Fails(kInvalid, "begins at byte 4, want 8")));
  EXPECT_THAT(
      Parse(Entry("a", "[1]", "[0,4]") + "," + Entry("b", "[1]", "[0,4]"), 4),
      Fails(kInvalid, "begins at byte 0, want 4"));
}

TEST(ParseSafetensorsTest, AHoleBetweenTensorsIsRefused) {
  EXPECT_THAT(
      Parse(Entry("a", "[1]", "[0,4]") + "," + Entry("b", "[1]", "[8,12]"), 12),
      AllOf(Fails(kInvalid, "tensor \"b\""),
            Fails(kInvalid, "begins at byte 8, want 4")));
  EXPECT_THAT(Parse(Entry("a", "[1]", "[4,8]"), 8),
              Fails(kInvalid, "begins at byte 4, want 0"));
}

TEST(ParseSafetensorsTest, ANameThatComesTwiceIsRefused) {
  EXPECT_THAT(
      Parse(Entry("a", "[1]", "[0,4]") + "," + Entry("a", "[1]", "[4,8]"), 8),
      Fails(kInvalid, ""));
  EXPECT_THAT(
      Parse(Entry("a", "[1]", "[0,4]") + "," + Entry("a", "[1]", "[0,4]"), 4),
      Fails(kInvalid, ""));
}

TEST(ParseSafetensorsTest, NoChangedByteOfAHeaderLeadsOutOfTheFile) {
  const std::string file = TwoTensors();
  for (size_t at = 0; at < file.size() - 20; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::vector<char> changed(file.begin(), file.end());
      changed[at] = static_cast<char>(value);
      const absl::StatusOr<TensorMap> tensors = ParseSafetensors(changed);
      if (!tensors.ok()) continue;
      for (const auto& [name, view] : *tensors) {
        const char* begin = static_cast<const char*>(view.data);
        ASSERT_GE(begin, changed.data());
        ASSERT_LE(begin + view.bytes(), changed.data() + changed.size());
      }
    }
  }
}

// A header may nest brackets as deep as it is long.
TEST(ParseSafetensorsDeathTest, DeepNestingIsRefusedAndNotFollowed) {
  const std::string deep =
      std::string(500'000, '[') + std::string(500'000, ']');
  for (const std::string& entries :
       {Entry("name", deep, "[0,4]"), Entry("name", "[1]", deep),
        Entry("name", "[1]", "[0," + deep + "]"), "\"name\":" + deep,
        "\"__metadata__\":" + deep + ",\"name\":5"}) {
    EXPECT_EXIT(std::exit(Parse(entries, 4).ok() ? 1 : 0),
                testing::ExitedWithCode(0), "")
        << entries.substr(0, 60);
  }
}

// -- Files -------------------------------------------------------------------

NamedTensor Named(const std::string& name, DType dtype, Shape shape,
                  const void* data) {
  return {.name = name,
          .view = {.data = data, .dtype = dtype, .shape = std::move(shape)}};
}

std::string BytesOf(const void* data, int64_t bytes) {
  return {static_cast<const char*>(data), static_cast<size_t>(bytes)};
}
std::string Bytes(const TensorView& view) {
  return BytesOf(view.data, view.bytes());
}

TEST(SafetensorsFileTest, WhatWasWrittenIsReadBack) {
  const TempDir dir;
  const std::string path = dir.File("t.safetensors");
  const std::vector<float> floats = {1.5f, -2.0f, 3.25f, 0.0f, 5.0f, -6.0f};
  const std::vector<int64_t> ids = {7, -8};
  const std::vector<char> bytes = {1, 2, 3};
  ASSERT_THAT(WriteSafetensors(
                  path, {Named("z.weight", DType::kF32, {2, 3}, floats.data()),
                         Named("odd", DType::kU8, {3}, bytes.data()),
                         Named("ids", DType::kI64, {2}, ids.data()),
                         Named("none", DType::kF32, {0, 5}, nullptr),
                         Named("caf\xc3\xa9 \"quoted\"\n", DType::kF32, {},
                               floats.data())}),
              IsOk());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_THAT(file, IsOk());
  const TensorMap& tensors = (*file)->tensors();
  ASSERT_EQ(tensors.size(), 5u);
  EXPECT_EQ(tensors.at("z.weight").shape, (Shape{2, 3}));
  EXPECT_EQ(Bytes(tensors.at("z.weight")), BytesOf(floats.data(), 24));
  EXPECT_EQ(tensors.at("ids").dtype, DType::kI64);
  EXPECT_EQ(Bytes(tensors.at("ids")), BytesOf(ids.data(), 16));
  EXPECT_EQ(Bytes(tensors.at("odd")), BytesOf(bytes.data(), 3));
  EXPECT_EQ(tensors.at("none").elements(), 0);
  EXPECT_EQ(tensors.count("caf\xc3\xa9 \"quoted\"\n"), 1u);
}

TEST(SafetensorsFileTest, EveryElementTypeGoesThere) {
  const TempDir dir;
  const std::vector<char> data(24, 'd');
  for (const DType dtype :
       {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
        DType::kI32, DType::kI16, DType::kI8, DType::kU8, DType::kBool}) {
    const std::string path = dir.File("t.safetensors");
    ASSERT_THAT(WriteSafetensors(path, {Named("t", dtype, {3}, data.data())}),
                IsOk());
    const auto file = SafetensorsFile::Open(path);
    ASSERT_THAT(file, IsOk());
    EXPECT_EQ((*file)->tensors().at("t").dtype, dtype);
  }
}

TEST(SafetensorsFileTest, TheDataBeginOnEightBytes) {
  const TempDir dir;
  const float value = 1.0f;
  for (const char* name : {"a", "ab", "abc", "abcd", "abcde"}) {
    const std::string path = dir.File("t.safetensors");
    ASSERT_THAT(WriteSafetensors(path, {Named(name, DType::kF32, {1}, &value)}),
                IsOk());
    EXPECT_EQ((ReadFile(path).size() - 4) % 8, 0u);
  }
}

TEST(SafetensorsFileTest, WritingReplacesAFileAndLeavesNothingElse) {
  const TempDir dir;
  const std::string path = dir.File("t.safetensors");
  const float value = 1.0f;
  WriteFile(path, std::string(5000, 'x'));
  ASSERT_THAT(WriteSafetensors(path, {Named("a", DType::kF32, {1}, &value)}),
              IsOk());
  EXPECT_THAT(SafetensorsFile::Open(path), IsOk());
  int files = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator(dir.path())) {
    ++files;
  }
  EXPECT_EQ(files, 1);
}

TEST(SafetensorsFileTest, WritingWhereNothingCanBeWrittenIsUnavailable) {
  const TempDir dir;
  const std::string path = dir.File("no/such/folder/t.safetensors");
  const float value = 1.0f;
  EXPECT_THAT(WriteSafetensors(path, {Named("a", DType::kF32, {1}, &value)}),
              Fails(absl::StatusCode::kUnavailable, path));
}

TEST(SafetensorsFileTest, AFileThatIsMissingIsNotFound) {
  const TempDir dir;
  const std::string path = dir.File("none.safetensors");
  EXPECT_THAT(SafetensorsFile::Open(path),
              Fails(absl::StatusCode::kNotFound, path));
}

TEST(SafetensorsFileTest, WhatIsNoSuchFileIsRefusedByPath) {
  const TempDir dir;
  const std::string empty = dir.File("empty");
  WriteFile(empty, "");
  EXPECT_THAT(SafetensorsFile::Open(empty), Fails(kInvalid, empty));
  EXPECT_THAT(SafetensorsFile::Open(dir.path()), Fails(kInvalid, dir.path()));
  const std::string pipe = dir.File("pipe");  // opening it must not wait
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(SafetensorsFile::Open(pipe), Fails(kInvalid, pipe));
  const std::string torn = dir.File("torn");
  WriteFile(torn, TwoTensors().substr(0, 50));
  EXPECT_THAT(SafetensorsFile::Open(torn), Fails(kInvalid, torn));
}

}  // namespace
}  // namespace mneme
