// SPDX-License-Identifier: Apache-2.0
#include "engine/model/tokenizer_file.h"

#include <cstdint>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/files.h"

namespace mneme {
namespace {

constexpr int64_t kMaxTokenizerBytes = 64 << 20;

// Transformer-XL's words as Hugging Face has them. To read it is to run it.
constexpr char kPickle[] = "/vocab.pkl";
constexpr char kConversion[] =
    "python3 -c 'import pickle; print(*pickle.load(open(\"vocab.pkl\", "
    "\"rb\"))[\"idx2sym\"], sep=\"\\n\")' > vocab.txt";

struct TokenizerFile {
  std::string_view kind;
  const char* name;
};
// The first that is there is the default.
constexpr TokenizerFile kFiles[] = {{"huggingface", "/tokenizer.json"},
                                    {"sentencepiece", "/tokenizer.model"},
                                    {"words", "/vocab.txt"},
                                    {"words", kPickle}};

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

}  // namespace

std::string_view DefaultTokenizer(const std::string& directory) {
  for (const TokenizerFile& file : kFiles) {
    if (Exists(directory + file.name)) return file.kind;
  }
  return "none";
}

absl::StatusOr<std::string> ReadTokenizerFile(const std::string& directory,
                                              std::string_view kind) {
  for (const TokenizerFile& file : kFiles) {
    if (kind != file.kind) continue;
    const std::string path = directory + file.name;
    if (kind == "words" && !Exists(path) && Exists(directory + kPickle)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer \"words\": found vocab.pkl, a Python pickle, "
                       "want vocab.txt, a word a line; if you trust the file: ",
                       kConversion));
    }
    return ReadSmallFile(path, kMaxTokenizerBytes);
  }
  return "";
}

}  // namespace mneme
