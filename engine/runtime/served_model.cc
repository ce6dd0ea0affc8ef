// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/served_model.h"

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/text/sentencepiece_tokenizer.h"

namespace mneme {

absl::Status ServedModel::CheckInput(SessionUnit unit, const Payload& payload,
                                     const std::string& what) const {
  const auto* text = std::get_if<std::string>(&payload);
  if ((unit == SessionUnit::kText) != (text != nullptr)) {
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat(
            what, ": found ", text != nullptr ? "text" : "tokens", ", want ",
            text != nullptr ? "tokens: this is a token session"
                            : "text: this is a text session")),
        {.reason = "WRONG_UNIT",
         .metadata = {{"found", text != nullptr ? "TEXT" : "TOKENS"},
                      {"expected", text != nullptr ? "TOKENS" : "TEXT"}}});
  }
  if (text != nullptr) return absl::OkStatus();
  const auto& tokens = std::get<std::vector<int32_t>>(payload);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= model->config().vocab_size) {
      return BadField("tokens", absl::StrCat(what, ": token ", i, " is ",
                                             tokens[i], ", wanted 0 to ",
                                             model->config().vocab_size - 1));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeTokenizer(
    const Model& model) {
  const ModelConfig& config = model.config();
  const VocabularyOptions options{.vocab_size = config.vocab_size,
                                  .bos = config.bos_token,
                                  .eos = config.eos_tokens};
  if (config.tokenizer == "bytes") return MakeByteTokenizer(options);
  if (config.tokenizer == "sentencepiece") {
    return MakeSentencePieceTokenizer(model.tokenizer_file(), options);
  }
  return nullptr;
}

}  // namespace mneme
