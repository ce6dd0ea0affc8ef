// SPDX-License-Identifier: Apache-2.0
#include "engine/text/sentencepiece_model.h"

#include <cmath>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/coding.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"

namespace mneme {
namespace {

using Type = SentencePieceModel::Type;
using Piece = SentencePieceModel::Piece;

constexpr size_t kMaxPieces = 1 << 20;

// Field numbers of sentencepiece_model.proto.
enum ModelField {
  kPieces = 1,
  kTrainerSpec = 2,
  kNormalizerSpec = 3,
  kDenormalizerSpec = 5
};
enum PieceField { kText = 1, kScore = 2, kType = 3 };
enum TrainerField {
  kModelType = 3,
  kWhitespaceAsSuffix = 24,
  kByteFallback = 35,
  kUnknownSurface = 44
};
enum NormalizerField {
  kName = 1,
  kCharsMap = 2,
  kDummyPrefix = 3,
  kRemoveExtraWhitespaces = 4,
  kEscapeWhitespaces = 5
};
constexpr uint64_t kModelTypeBpe = 2;

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("tokenizer.model: ", std::string(what)));
}

absl::Status Unsupported(std::string_view what, std::string_view found,
                         std::string_view wanted) {
  return absl::UnimplementedError(
      absl::StrCat("tokenizer.model: ", std::string(what), " is ",
                   std::string(found), ", want ", std::string(wanted)));
}

// One field of a protocol buffer message.
struct WireField {
  uint64_t number = 0;
  uint64_t value = 0;      // varint and fixed
  std::string_view bytes;  // length-delimited
  enum Kind { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 } kind;
};

// The fields of a message, in the order in which they were written.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : left_(bytes) {}

  bool done() const { return left_.empty(); }

  absl::StatusOr<WireField> Next() {
    MNEME_ASSIGN_OR_RETURN(const uint64_t tag, Varint());
    WireField field;
    field.number = tag >> 3;
    field.kind = static_cast<WireField::Kind>(tag & 7);
    switch (tag & 7) {
      case WireField::kVarint: {
        MNEME_ASSIGN_OR_RETURN(field.value, Varint());
        return field;
      }
      case WireField::kBytes: {
        MNEME_ASSIGN_OR_RETURN(const uint64_t size, Varint());
        MNEME_ASSIGN_OR_RETURN(field.bytes, Take(size));
        return field;
      }
      case WireField::kFixed32: {
        MNEME_ASSIGN_OR_RETURN(const std::string_view fixed, Take(4));
        field.value = DecodeFixed32(fixed.data());
        return field;
      }
      case WireField::kFixed64: {
        MNEME_ASSIGN_OR_RETURN(field.bytes, Take(8));
        return field;
      }
      default:
        return Malformed(
            absl::StrCat("found wire type ", tag & 7, " of a protocol buffer"));
    }
  }

 private:
  absl::StatusOr<std::string_view> Take(uint64_t size) {
    if (size > left_.size()) {
      return Malformed(absl::StrCat("a field of ", size, " bytes, but ",
                                    left_.size(), " are left"));
    }
    const std::string_view taken = left_.substr(0, size);
    left_.remove_prefix(size);
    return taken;
  }

  absl::StatusOr<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      MNEME_ASSIGN_OR_RETURN(const std::string_view byte, Take(1));
      const auto bits = static_cast<uint8_t>(byte[0]);
      value |= uint64_t{bits & 0x7fU} << shift;
      if (bits < 0x80) return value;
    }
    return Malformed("an integer of more than ten bytes");
  }

  std::string_view left_;
};

absl::StatusOr<Piece> ParsePiece(std::string_view bytes, size_t id) {
  Piece piece;
  uint64_t type = 1;
  WireReader reader(bytes);
  while (!reader.done()) {
    MNEME_ASSIGN_OR_RETURN(const WireField field, reader.Next());
    if (field.number == kText && field.kind == WireField::kBytes) {
      piece.text = std::string(field.bytes);
    } else if (field.number == kScore && field.kind == WireField::kFixed32) {
      const auto bits = static_cast<uint32_t>(field.value);
      std::memcpy(&piece.score, &bits, sizeof(bits));
    } else if (field.number == kType && field.kind == WireField::kVarint) {
      type = field.value;
    }
  }
  const std::string name = absl::StrCat("piece ", id);
  if (type == 5) {
    return Unsupported(name, "unused", "no unused pieces");
  }
  if (type < 1 || type > 6) {
    return Malformed(absl::StrCat(name, ": type is ", type, ", want 1 to 6"));
  }
  piece.type = static_cast<Type>(type);
  if (std::isnan(piece.score)) {
    return Malformed(absl::StrCat(name, ": the score is not a number"));
  }
  const Utf8Prefix whole = WholeUtf8Chars(piece.text);
  if (piece.text.empty() ||
      whole.whole_bytes != static_cast<int64_t>(piece.text.size())) {
    return Malformed(absl::StrCat(name, " is \"", absl::CHexEscape(piece.text),
                                  "\", want UTF-8 text"));
  }
  return piece;
}

absl::Status ParseTrainer(std::string_view bytes, SentencePieceModel& model,
                          uint64_t& model_type) {
  WireReader reader(bytes);
  while (!reader.done()) {
    MNEME_ASSIGN_OR_RETURN(const WireField field, reader.Next());
    if (field.kind == WireField::kVarint) {
      if (field.number == kModelType) model_type = field.value;
      if (field.number == kByteFallback) model.byte_fallback = field.value != 0;
      if (field.number == kWhitespaceAsSuffix && field.value != 0) {
        return Unsupported("treat_whitespace_as_suffix", "true", "false");
      }
    } else if (field.number == kUnknownSurface &&
               field.kind == WireField::kBytes) {
      model.unknown_surface = std::string(field.bytes);
    }
  }
  return absl::OkStatus();
}

absl::Status ParseNormalizer(std::string_view bytes, std::string_view which,
                             SentencePieceModel* model) {
  std::string name;
  bool remove_extra_whitespaces = model != nullptr;  // the proto's default
  WireReader reader(bytes);
  while (!reader.done()) {
    MNEME_ASSIGN_OR_RETURN(const WireField field, reader.Next());
    if (field.kind == WireField::kBytes) {
      if (field.number == kName) name = std::string(field.bytes);
      if (field.number == kCharsMap && !field.bytes.empty()) {
        return Unsupported(
            which,
            absl::StrCat("\"", absl::CHexEscape(name), "\", a map of ",
                         field.bytes.size(), " bytes"),
            "\"identity\"");
      }
    } else if (field.kind == WireField::kVarint && model != nullptr) {
      if (field.number == kDummyPrefix) model->add_dummy_prefix = field.value;
      if (field.number == kRemoveExtraWhitespaces) {
        remove_extra_whitespaces = field.value != 0;
      }
      if (field.number == kEscapeWhitespaces && field.value == 0) {
        return Unsupported("escape_whitespaces", "false", "true");
      }
    }
  }
  if (remove_extra_whitespaces) {
    return Unsupported("remove_extra_whitespaces", "true", "false");
  }
  return absl::OkStatus();
}

absl::Status CheckPieces(SentencePieceModel& model) {
  std::set<std::string_view> texts;
  int unknowns = 0;
  std::vector<bool> bytes(256);
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    if (!texts.insert(piece.text).second) {
      return Malformed(absl::StrCat("piece ", id, ", \"",
                                    absl::CHexEscape(piece.text),
                                    "\", is there twice"));
    }
    if (piece.type == Type::kUnknown) {
      model.unknown = static_cast<int32_t>(id);
      ++unknowns;
    }
    if (piece.type == Type::kByte) {
      const absl::optional<uint8_t> byte = ByteOfPiece(piece.text);
      if (!byte.has_value()) {
        return Malformed(absl::StrCat("piece ", id, " is \"",
                                      absl::CHexEscape(piece.text),
                                      "\", want a byte as <0x0A>"));
      }
      bytes[*byte] = true;
    }
  }
  if (unknowns != 1) {
    return Malformed(absl::StrCat(unknowns, " unknown pieces, want 1"));
  }
  for (size_t byte = 0; byte < bytes.size() && model.byte_fallback; ++byte) {
    if (!bytes[byte]) {
      return Malformed(
          absl::StrCat("byte_fallback without a piece for byte ", byte));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(
    std::string_view bytes) {
  SentencePieceModel model;
  model.unknown_surface = " \xe2\x81\x87 ";
  uint64_t model_type = 1;
  std::string normalizer;  // messages that come twice are one
  WireReader reader(bytes);
  while (!reader.done()) {
    MNEME_ASSIGN_OR_RETURN(const WireField field, reader.Next());
    if (field.kind != WireField::kBytes) continue;
    if (field.number == kPieces) {
      if (model.pieces.size() == kMaxPieces) {
        return Malformed(absl::StrCat("more than ", kMaxPieces, " pieces"));
      }
      MNEME_ASSIGN_OR_RETURN(Piece piece,
                             ParsePiece(field.bytes, model.pieces.size()));
      model.pieces.push_back(std::move(piece));
    } else if (field.number == kTrainerSpec) {
      MNEME_RETURN_IF_ERROR(ParseTrainer(field.bytes, model, model_type));
    } else if (field.number == kNormalizerSpec) {
      normalizer += field.bytes;
    } else if (field.number == kDenormalizerSpec) {
      MNEME_RETURN_IF_ERROR(
          ParseNormalizer(field.bytes, "the denormalizer", nullptr));
    }
  }
  if (model.pieces.empty()) return Malformed("no pieces");
  if (model_type != kModelTypeBpe) {
    return Unsupported("model_type", absl::StrCat(model_type),
                       absl::StrCat(kModelTypeBpe, " (BPE)"));
  }
  MNEME_RETURN_IF_ERROR(ParseNormalizer(normalizer, "the normalizer", &model));
  MNEME_RETURN_IF_ERROR(CheckPieces(model));
  return model;
}

absl::optional<uint8_t> ByteOfPiece(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') {
    return absl::nullopt;
  }
  const size_t high = kDigits.find(text[3]);
  const size_t low = kDigits.find(text[4]);
  if (high == kDigits.npos || low == kDigits.npos) return absl::nullopt;
  return static_cast<uint8_t>(high << 4 | low);
}

}  // namespace mneme
