// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_MODEL_TOKENIZER_FILE_H_
#define MNEME_ENGINE_MODEL_TOKENIZER_FILE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mneme {

// The kind of tokenizer that a model's directory is for unless its config
// names one: that of the file it has. Of several, tokenizer.json comes first,
// as for Hugging Face's own libraries. "none" if it has none.
std::string_view DefaultTokenizer(const std::string& directory);

// The contents of the file that a tokenizer of `kind` is made from; empty if
// there is no file to that kind. Errors as ReadSmallFile, and INVALID_ARGUMENT,
// saying how to convert it, for words that are there as a pickle alone.
absl::StatusOr<std::string> ReadTokenizerFile(const std::string& directory,
                                              std::string_view kind);

}  // namespace mneme

#endif  // MNEME_ENGINE_MODEL_TOKENIZER_FILE_H_
