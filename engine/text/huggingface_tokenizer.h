// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_HUGGINGFACE_TOKENIZER_H_
#define MNEME_ENGINE_TEXT_HUGGINGFACE_TOKENIZER_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/text/tokenizer.h"

namespace mneme {

// The tokenizer that `file`, the contents of a tokenizer.json, describes:
// byte-pair encoding, token for token as Hugging Face's tokenizers 0.23 does
// it, where that is told to take special tokens in text for text
// (encode_special_tokens).
//
// Text comes out up to the last place that no continuation can change, of
// which there is one after nearly every word; or, if none comes, up to
// Tokenizer::kMaxPendingBytes, to which alone whole texts come out otherwise
// than from tokenizers. Further departures:
// - A pre-tokenizer removes no text: what "Removed" would take out is a word.
// - What a history begins with is up to the file's post-processor, and not to
//   `options.bos`; what it puts behind a text is left out.
// - Truncation and padding are for batches, and passed over.
// - A reply's text is taken token by token: bytes that are no UTF-8 are not
//   replaced, and of several spaces that a text begins with, Metaspace's
//   decoder takes off one.
//
// INVALID_ARGUMENT naming the component, the found and the wanted, for a file
// that is malformed or wants what is not served.
absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeHuggingFaceTokenizer(
    std::string_view file, const VocabularyOptions& options);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_HUGGINGFACE_TOKENIZER_H_
