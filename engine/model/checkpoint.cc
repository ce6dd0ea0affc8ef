// SPDX-License-Identifier: Apache-2.0
#include "engine/model/checkpoint.h"

#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/files.h"
#include "engine/base/status_macros.h"
#include "engine/model/shard_index.h"

namespace mneme {
namespace {

constexpr char kWhole[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";
constexpr int64_t kMaxIndexBytes = 16 << 20;

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

absl::Status Misplaced(const std::string& tensor, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("tensor \"", tensor, "\" ", what));
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& directory) {
  const std::string whole = absl::StrCat(directory, "/", kWhole);
  const std::string index_path = absl::StrCat(directory, "/", kIndex);
  Checkpoint checkpoint;
  if (!Exists(index_path)) {
    MNEME_ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsFile> file,
                           SafetensorsFile::Open(whole));
    checkpoint.tensors_ = file->tensors();
    checkpoint.files_.push_back(std::move(file));
    return checkpoint;
  }
  if (Exists(whole)) {
    return absl::InvalidArgumentError(absl::StrCat(
        directory, ": found both ", kWhole, " and ", kIndex, ", want one"));
  }
  MNEME_ASSIGN_OR_RETURN(const std::string text,
                         ReadSmallFile(index_path, kMaxIndexBytes));
  absl::StatusOr<ShardIndex> index = ParseShardIndex(text);
  if (!index.ok()) {
    return absl::Status(
        index.status().code(),
        absl::StrCat(index_path, ": ", index.status().message()));
  }

  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [tensor, shard] : *index) shards[shard] = nullptr;
  for (auto& [shard, opened] : shards) {
    MNEME_ASSIGN_OR_RETURN(
        std::unique_ptr<SafetensorsFile> file,
        SafetensorsFile::Open(absl::StrCat(directory, "/", shard)));
    opened = file.get();
    checkpoint.files_.push_back(std::move(file));
    for (const auto& [tensor, view] : opened->tensors()) {
      const auto place = index->find(tensor);
      if (place == index->end()) {
        return Misplaced(tensor, absl::StrCat("is in ", shard, ", but ", kIndex,
                                              " does not name it"));
      }
      if (place->second != shard) {
        return Misplaced(tensor, absl::StrCat("is in ", shard, ", but ", kIndex,
                                              " puts it in ", place->second));
      }
      checkpoint.tensors_.emplace(tensor, view);
    }
  }
  for (const auto& [tensor, shard] : *index) {
    if (checkpoint.tensors_.count(tensor) == 0) {
      return Misplaced(tensor, absl::StrCat("is missing in ", shard, ", where ",
                                            kIndex, " puts it"));
    }
  }
  return checkpoint;
}

}  // namespace mneme
