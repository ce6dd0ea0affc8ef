// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_TOKEN_DECODER_H_
#define MNEME_ENGINE_TEXT_TOKEN_DECODER_H_

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mneme {

// "decoder" of a tokenizer.json: from what a token is called to the text it
// stands for, token by token. Immutable.
class TokenDecoder {
 public:
  // INVALID_ARGUMENT naming a component that is not served, the found and the
  // wanted; also for one that looks at several tokens, but for the space that
  // text begins with.
  static absl::StatusOr<TokenDecoder> Parse(const nlohmann::json& decoder);

  // The bytes of a token, of which a character may take several.
  std::string Decode(std::string_view name) const;

  // What is taken off the beginning of a text: a space, or nothing.
  std::string_view prefix() const { return strips_space_ ? " " : ""; }

 private:
  struct Step {
    enum class Kind { kReplace, kBytes, kByteNames };
    Kind kind = Kind::kReplace;
    std::string from;  // kReplace
    std::string to;
  };

  absl::Status Add(const nlohmann::json& decoder);

  std::vector<Step> steps_;
  size_t growth_ = 1;   // most bytes that replacements make of a character
  bool fused_ = false;  // the text is one from here on
  bool strips_space_ = false;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_TOKEN_DECODER_H_
