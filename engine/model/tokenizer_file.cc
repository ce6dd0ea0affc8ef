// SPDX-License-Identifier: Apache-2.0
#include "engine/model/tokenizer_file.h"

#include <cstdint>
#include <filesystem>
#include <system_error>

#include "engine/base/files.h"

namespace mneme {
namespace {

constexpr int64_t kMaxTokenizerBytes = 64 << 20;

struct TokenizerFile {
  std::string_view kind;
  const char* name;
};
// The first that is there is the default.
constexpr TokenizerFile kFiles[] = {{"huggingface", "/tokenizer.json"},
                                    {"sentencepiece", "/tokenizer.model"}};

}  // namespace

std::string_view DefaultTokenizer(const std::string& directory) {
  for (const TokenizerFile& file : kFiles) {
    std::error_code error;
    if (std::filesystem::exists(directory + file.name, error)) return file.kind;
  }
  return "none";
}

absl::StatusOr<std::string> ReadTokenizerFile(const std::string& directory,
                                              std::string_view kind) {
  for (const TokenizerFile& file : kFiles) {
    if (kind == file.kind) {
      return ReadSmallFile(directory + file.name, kMaxTokenizerBytes);
    }
  }
  return "";
}

}  // namespace mneme
