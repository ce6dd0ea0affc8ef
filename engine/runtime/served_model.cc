// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/served_model.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/text/huggingface_tokenizer.h"
#include "engine/text/sentencepiece_tokenizer.h"
#include "engine/text/word_tokenizer.h"

namespace mneme {
namespace {

absl::Status CheckTokens(const std::vector<int32_t>& tokens, int64_t vocab_size,
                         const std::string& what) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocab_size) {
      return BadField("tokens",
                      absl::StrCat(what, "token ", i, " is ", tokens[i],
                                   ", wanted 0 to ", vocab_size - 1));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTokenizer(const ServedModel& model) {
  if (model.tokenizer != nullptr) return absl::OkStatus();
  return WithReason(absl::UnimplementedError(absl::StrCat("model ", model.name,
                                                          " has no tokenizer")),
                    {.reason = "NO_TOKENIZER", .metadata = {}});
}

}  // namespace

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
  return CheckTokens(std::get<std::vector<int32_t>>(payload),
                     model->config().vocab_size, what + ": ");
}

bool ServedModel::Ends(int32_t token) const {
  const std::vector<int32_t>& eos = model->config().eos_tokens;
  return std::find(eos.begin(), eos.end(), token) != eos.end() ||
         (chat != nullptr && chat->end() == token);
}

absl::StatusOr<std::vector<TextToken>> ServedModel::Tokenize(
    std::string_view text) const {
  MNEME_RETURN_IF_ERROR(CheckTokenizer(*this));
  const auto size = static_cast<int64_t>(text.size());
  if (size > kMaxSegmentBytes) {
    return BadField("text", absl::StrCat("found ", size, " bytes, wanted ",
                                         kMaxSegmentBytes, " at most"));
  }
  const Utf8Prefix whole = WholeUtf8Chars(text);
  if (tokenizer->utf8() && whole.whole_bytes < size) {
    return BadUtf8(
        "text", whole.whole_bytes,
        absl::StrCat("found byte ", whole.whole_bytes,
                     whole.cut ? " to begin a character that is cut off"
                               : " to be part of no character",
                     ", wanted UTF-8"));
  }
  std::vector<TextToken> tokens;
  tokenizer->EncodeFront(text, {.begins = true, .ends = true},
                         std::numeric_limits<size_t>::max(), tokens);
  return tokens;
}

absl::StatusOr<std::string> ServedModel::Detokenize(
    const std::vector<int32_t>& tokens) const {
  MNEME_RETURN_IF_ERROR(CheckTokenizer(*this));
  constexpr size_t kMaxTokens = kMaxSegmentBytes / sizeof(int32_t);
  if (tokens.size() > kMaxTokens) {
    return BadField("tokens", absl::StrCat("found ", tokens.size(), ", wanted ",
                                           kMaxTokens, " at most"));
  }
  MNEME_RETURN_IF_ERROR(CheckTokens(tokens, model->config().vocab_size, ""));
  std::string text;
  for (const int32_t token : tokens) text += tokenizer->Decode(token);
  const std::string_view prefix = tokenizer->prefix();
  if (text.compare(0, prefix.size(), prefix) == 0) text.erase(0, prefix.size());
  return text;
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeTokenizer(
    const Model& model) {
  const ModelConfig& config = model.config();
  const VocabularyOptions options{.vocab_size = config.vocab_size,
                                  .bos = config.bos_token,
                                  .eos = config.eos_tokens,
                                  .lower_case = config.lower_case};
  if (config.tokenizer == "bytes") return MakeByteTokenizer(options);
  if (config.tokenizer == "sentencepiece") {
    return MakeSentencePieceTokenizer(model.tokenizer_file(), options);
  }
  if (config.tokenizer == "huggingface") {
    return MakeHuggingFaceTokenizer(model.tokenizer_file(), options);
  }
  if (config.tokenizer == "words") {
    return MakeWordTokenizer(model.tokenizer_file(), options);
  }
  return nullptr;
}

absl::Status AddTokenizer(ServedModel& served) {
  MNEME_ASSIGN_OR_RETURN(served.tokenizer, MakeTokenizer(*served.model));
  if (served.tokenizer == nullptr) return absl::OkStatus();
  const ModelConfig& config = served.model->config();
  MNEME_ASSIGN_OR_RETURN(served.chat,
                         MakeChatTemplate(config.chat_template,
                                          {.user = config.user_token,
                                           .assistant = config.assistant_token},
                                          *served.tokenizer));
  const absl::Span<const uint8_t> sayable = served.tokenizer->sayable();
  served.text_sayable.assign(sayable.begin(), sayable.end());
  const absl::optional<int32_t> end = served.chat->end();
  if (end.has_value()) served.text_sayable[*end] = 1;
  return absl::OkStatus();
}

}  // namespace mneme
