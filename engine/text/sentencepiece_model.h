// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_TEXT_SENTENCEPIECE_MODEL_H_
#define MNEME_ENGINE_TEXT_SENTENCEPIECE_MODEL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"

namespace mneme {

// What tokenizer.model holds: SentencePiece's ModelProto
// (sentencepiece_model.proto, version 0.1.97), as far as encoding needs it.
struct SentencePieceModel {
  enum class Type {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kByte = 6,
  };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = Type::kNormal;
  };

  std::vector<Piece> pieces;  // by token id
  int32_t unknown = 0;        // the piece of that type
  // Characters that no piece has become their bytes' tokens, all 256 of which
  // are there, and not the unknown token.
  bool byte_fallback = false;
  // A text is encoded as if a space came before it.
  bool add_dummy_prefix = true;
  std::string unknown_surface;  // the text of the unknown token
};

// INVALID_ARGUMENT for bytes that are no such model, or for one that
// contradicts itself; UNIMPLEMENTED naming the setting, the found and the
// wanted, for one that is not byte-pair encoding of text as it is. Merging
// alone is local, so that a text can be encoded while it comes in.
absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(
    std::string_view bytes);

// The byte that a piece such as "<0x0A>" names.
absl::optional<uint8_t> ByteOfPiece(std::string_view text);

}  // namespace mneme

#endif  // MNEME_ENGINE_TEXT_SENTENCEPIECE_MODEL_H_
