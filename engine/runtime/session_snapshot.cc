// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session_snapshot.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_coder.h"
#include "engine/base/coding.h"
#include "engine/base/crc32c.h"
#include "engine/base/errors.h"
#include "engine/base/format_head.h"
#include "engine/base/status_macros.h"
#include "engine/runtime/kept_reply_coding.h"

namespace mneme {
namespace {

constexpr char kLetters[] = "MNEMESNP";
constexpr uint32_t kVersion = 1;

// In this order.
enum class Section : uint32_t { kHeader = 1, kHistory, kInput, kReply, kState };

const char* NameOf(Section section) {
  const char* const kNames[] = {"header", "history", "input", "reply", "state"};
  return kNames[static_cast<uint32_t>(section) - 1];
}

constexpr size_t kSectionHeadBytes = 12;  // number, length of the contents

// Appends a section whose contents `write` appends. Its checksum is of its
// head and its contents.
template <typename Write>
void WriteSection(Section section, std::string& out, const Write& write) {
  const size_t begin = out.size();
  ByteWriter writer(out);
  writer.U32(static_cast<uint32_t>(section));
  writer.U64(0);  // the length, which is known below
  write();
  EncodeFixed64(out.size() - begin - kSectionHeadBytes, &out[begin + 4]);
  writer.U32(Crc32c(std::string_view(out).substr(begin)));
}

absl::Status Damaged(const std::string& what) {
  return absl::DataLossError(absl::StrCat("snapshot: ", what));
}

absl::StatusOr<std::string_view> ReadSection(Section section, ByteReader& in,
                                             std::string_view bytes) {
  const std::string_view whole = bytes.substr(bytes.size() - in.left());
  const uint32_t number = in.U32();
  const std::string_view contents = in.Bytes();
  const uint32_t checksum = in.U32();
  if (!in.ok() || number != static_cast<uint32_t>(section)) {
    return Damaged(absl::StrCat("found no section \"", NameOf(section), "\""));
  }
  if (checksum !=
      Crc32c(whole.substr(0, kSectionHeadBytes + contents.size()))) {
    return Damaged(
        absl::StrCat("section \"", NameOf(section), "\" has another checksum"));
  }
  return contents;
}

void EncodeHeader(const SnapshotHeader& header, std::string& out) {
  ByteWriter writer(out);
  writer.Bytes(header.model_fingerprint);
  writer.Bytes(header.arithmetic_level);
  writer.Bool(header.unit == SessionUnit::kTokens);
  writer.I64(header.offset);
  writer.I64(header.position);
}

absl::StatusOr<SnapshotHeader> DecodeHeader(std::string_view in) {
  ByteReader reader(in);
  SnapshotHeader header;
  header.model_fingerprint = reader.String();
  header.arithmetic_level = reader.String();
  header.unit = reader.Bool() ? SessionUnit::kTokens : SessionUnit::kText;
  header.offset = reader.Count();
  header.position = reader.Count();
  if (!reader.done()) return Damaged("found a torn header");
  return header;
}

void EncodeBeside(const SessionSnapshot& snapshot, std::string& out) {
  WriteFormatHead(kLetters, kVersion, out);
  WriteSection(Section::kHeader, out,
               [&] { EncodeHeader(snapshot.header, out); });
  WriteSection(Section::kHistory, out, [&] { out += snapshot.history; });
  WriteSection(Section::kInput, out, [&] { out += snapshot.input; });
  WriteSection(Section::kReply, out, [&] { out += snapshot.reply; });
}

}  // namespace

std::string EncodeSnapshot(const SessionSnapshot& snapshot) {
  std::string out;
  EncodeBeside(snapshot, out);
  WriteSection(Section::kState, out, [&] { out += snapshot.state; });
  return out;
}

void EncodeSnapshot(const SessionSnapshot& beside, const SessionState& state,
                    std::string& out) {
  constexpr int64_t kHeads = 16 << 10;
  out.clear();
  out.reserve(beside.history.size() + beside.input.size() +
              beside.reply.size() + state.EncodedBytes() + kHeads);
  EncodeBeside(beside, out);
  WriteSection(Section::kState, out, [&] { state.Encode(out); });
}

absl::StatusOr<SessionSnapshot> DecodeSnapshot(std::string_view bytes) {
  const absl::optional<uint32_t> version = ReadFormatHead(kLetters, bytes);
  if (!version.has_value() || *version == 0) {
    return Damaged("found no head of one");
  }
  if (*version > kVersion) {
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat(
            "snapshot: found version ", *version, ", wanted ", kVersion)),
        {.reason = "STATE_INCOMPATIBLE",
         .metadata = {{"found", absl::StrCat(*version)},
                      {"expected", absl::StrCat(kVersion)}}});
  }
  ByteReader in(bytes.substr(kFormatHeadBytes));
  SessionSnapshot snapshot;
  MNEME_ASSIGN_OR_RETURN(const std::string_view header,
                         ReadSection(Section::kHeader, in, bytes));
  MNEME_ASSIGN_OR_RETURN(snapshot.header, DecodeHeader(header));
  MNEME_ASSIGN_OR_RETURN(snapshot.history,
                         ReadSection(Section::kHistory, in, bytes));
  MNEME_ASSIGN_OR_RETURN(snapshot.input,
                         ReadSection(Section::kInput, in, bytes));
  MNEME_ASSIGN_OR_RETURN(snapshot.reply,
                         ReadSection(Section::kReply, in, bytes));
  MNEME_ASSIGN_OR_RETURN(snapshot.state,
                         ReadSection(Section::kState, in, bytes));
  if (!in.done()) return Damaged("found bytes behind its end");
  return snapshot;
}

namespace {

absl::StatusOr<RestoredSession> Restore(
    const SessionSnapshot& snapshot,
    const std::shared_ptr<const ServedModel>& model, SessionState& state) {
  const SnapshotHeader& header = snapshot.header;
  const Model& made_of = *model->model;
  if (header.model_fingerprint != made_of.fingerprint()) {
    return WithReason(absl::FailedPreconditionError(absl::StrCat(
                          "snapshot: it was taken of a model with fingerprint ",
                          header.model_fingerprint, ", ", model->name, " has ",
                          made_of.fingerprint())),
                      {.reason = "STATE_INCOMPATIBLE",
                       .metadata = {{"found", header.model_fingerprint},
                                    {"expected", made_of.fingerprint()}}});
  }
  if (header.unit == SessionUnit::kText && model->tokenizer == nullptr) {
    return Damaged("found a text session of a model without a tokenizer");
  }
  MNEME_ASSIGN_OR_RETURN(History history, History::Decode(snapshot.history));
  InputQueue input(model.get(), header.unit);
  MNEME_RETURN_IF_ERROR(input.Decode(snapshot.input));
  absl::optional<KeptReply> reply;
  if (!snapshot.reply.empty()) {
    MNEME_ASSIGN_OR_RETURN(reply,
                           DecodeKeptReply(snapshot.reply, model, header.unit));
  }
  MNEME_RETURN_IF_ERROR(made_of.DecodeState(snapshot.state, state));
  if (history.unit() != header.unit || history.next_offset() != header.offset ||
      input.size() > header.offset * history.unit_bytes() ||
      state.position() != header.position) {
    return Damaged("its sections are of different histories");
  }
  return RestoredSession{.history = std::move(history),
                         .input = std::move(input),
                         .reply = std::move(reply)};
}

}  // namespace

absl::StatusOr<RestoredSession> RestoreSnapshot(
    const SessionSnapshot& snapshot,
    const std::shared_ptr<const ServedModel>& model, SessionState& state) {
  absl::StatusOr<RestoredSession> restored = Restore(snapshot, model, state);
  if (!restored.ok()) model->model->ResetState(state);
  return restored;
}

}  // namespace mneme
