// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_SENTENCEPIECE_TOKENIZER_H_
#define MNEME_ENGINE_TEXT_SENTENCEPIECE_TOKENIZER_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/text/tokenizer.h"

namespace mneme {

// The tokenizer that `file`, the contents of a tokenizer.model, describes:
// byte-pair encoding as SentencePiece 0.1.97 does it, token for token.
//
// Text is encoded run by run. A run ends before a character that stands
// behind the one before it in no piece, so that nothing merges across; or, if
// none comes, after Tokenizer::kMaxPendingBytes, to which alone whole texts
// come out otherwise than from SentencePiece.
//
// Control pieces are never read from text: a user who writes "</s>" has
// written four characters.
//
// Errors as ParseSentencePieceModel, and INVALID_ARGUMENT for a vocabulary
// that is smaller than the file's.
absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeSentencePieceTokenizer(
    std::string_view file, const VocabularyOptions& options);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_SENTENCEPIECE_TOKENIZER_H_
