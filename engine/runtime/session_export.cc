// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session_export.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_coder.h"
#include "engine/base/crc32c.h"
#include "engine/base/errors.h"
#include "engine/base/format_head.h"
#include "engine/base/status_macros.h"
#include "engine/runtime/requests.h"
#include "engine/runtime/status_coding.h"

namespace mneme {
namespace {

constexpr char kLetters[] = "MNEMEEXP";
constexpr uint32_t kVersion = 1;
// The format's head; the lengths of header and snapshot, and their checksum.
constexpr int64_t kLengthsBytes = 20;
constexpr int64_t kHeadBytes = kFormatHeadBytes + kLengthsBytes;
constexpr int64_t kTrailerBytes = 32;
constexpr int64_t kMaxHeaderBytes = 64 << 10;

absl::Status Damaged(const std::string& what) {
  return absl::DataLossError(absl::StrCat("session file: ", what));
}

void EncodeHeader(const ExportHeader& header, std::string& out) {
  ByteWriter writer(out);
  writer.Bytes(header.session);
  writer.Bytes(header.uid);
  writer.Bytes(header.model);
  writer.Bytes(header.snapshot.model_fingerprint);
  writer.Bytes(header.snapshot.arithmetic_level);
  writer.Bool(header.snapshot.unit == SessionUnit::kTokens);
  writer.I64(header.snapshot.offset);
  writer.I64(header.snapshot.position);
  writer.Bytes(header.state_digest);
  writer.Bytes(header.history_digest);
  writer.U64(header.labels.size());
  for (const auto& [key, value] : header.labels) {
    writer.Bytes(key);
    writer.Bytes(value);
  }
  EncodeDuration(header.ttl, writer);
  writer.I64(absl::ToUnixNanos(header.creation_time));
}

absl::StatusOr<ExportHeader> DecodeHeader(std::string_view in) {
  ByteReader reader(in);
  ExportHeader header;
  header.session = reader.String();
  header.uid = reader.String();
  header.model = reader.String();
  header.snapshot.model_fingerprint = reader.String();
  header.snapshot.arithmetic_level = reader.String();
  if (reader.Bool()) header.snapshot.unit = SessionUnit::kTokens;
  header.snapshot.offset = reader.Count();
  header.snapshot.position = reader.Count();
  header.state_digest = reader.String();
  header.history_digest = reader.String();
  for (uint64_t left = reader.U64(); left > 0 && reader.ok(); --left) {
    std::string key = reader.String();
    // In the order of their keys.
    auto& labels = header.labels;
    if (!labels.empty() && key <= labels.rbegin()->first) reader.Fail();
    labels.emplace_hint(labels.end(), std::move(key), reader.String());
  }
  header.ttl = DecodeDuration(reader);
  header.creation_time = absl::FromUnixNanos(reader.I64());
  if (!reader.done()) return Damaged("found a torn header");
  for (const absl::Status& status :
       {CheckId("session", header.session), CheckLabels(header.labels),
        CheckTtl(header.ttl)}) {
    if (!status.ok()) return Damaged(std::string(status.message()));
  }
  return header;
}

}  // namespace

ExportFile::ExportFile(const ExportHeader& header, std::string snapshot) {
  std::string encoded;
  EncodeHeader(header, encoded);
  std::string lengths;
  ByteWriter writer(lengths);
  writer.U64(encoded.size());
  writer.U64(snapshot.size());
  writer.U32(Crc32c(lengths));
  std::string& front = pieces_[0];
  WriteFormatHead(kLetters, kVersion, front);
  front += lengths;
  front += encoded;
  Sha256 hash;
  hash.Update(front);
  hash.Update(snapshot);
  pieces_[1] = std::move(snapshot);
  pieces_[2] = hash.Digest();
}

int64_t ExportFile::total_bytes() const {
  size_t bytes = 0;
  for (const std::string& piece : pieces_) bytes += piece.size();
  return static_cast<int64_t>(bytes);
}

std::string_view ExportFile::Read(int64_t offset, int64_t most) const {
  for (const std::string& piece : pieces_) {
    const auto size = static_cast<int64_t>(piece.size());
    if (offset < size) return std::string_view(piece).substr(offset, most);
    offset -= size;
  }
  return {};
}

absl::Status ExportReader::Add(std::string_view chunk) {
  if (status_.ok()) status_ = AddBytes(chunk);
  return status_;
}

bool ExportReader::Fill(std::string& piece, int64_t bytes,
                        std::string_view& chunk) {
  const std::string_view front =
      chunk.substr(0, bytes - static_cast<int64_t>(piece.size()));
  if (&piece != &trailer_) hash_.Update(front);
  piece += front;
  chunk.remove_prefix(front.size());
  return static_cast<int64_t>(piece.size()) == bytes;
}

absl::Status ExportReader::AddBytes(std::string_view chunk) {
  if (static_cast<int64_t>(head_.size()) < kHeadBytes) {
    if (!Fill(head_, kHeadBytes, chunk)) return absl::OkStatus();
    MNEME_RETURN_IF_ERROR(ReadHead());
    header_.reserve(header_bytes_);
    snapshot_.reserve(snapshot_bytes_);
  }
  if (!Fill(header_, header_bytes_, chunk) ||
      !Fill(snapshot_, snapshot_bytes_, chunk) ||
      !Fill(trailer_, kTrailerBytes, chunk)) {
    return absl::OkStatus();
  }
  if (!chunk.empty()) return Damaged("found bytes behind its end");
  return absl::OkStatus();
}

absl::Status ExportReader::ReadHead() {
  const std::string_view head = head_;
  const absl::optional<uint32_t> version = ReadFormatHead(kLetters, head);
  if (!version.has_value() || *version == 0) {
    return BadField("chunk", "found no exported session");
  }
  if (*version > kVersion) {
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat(
            "session file: found version ", *version, ", wanted ", kVersion)),
        {.reason = "STATE_INCOMPATIBLE",
         .metadata = {{"found", absl::StrCat(*version)},
                      {"expected", absl::StrCat(kVersion)}}});
  }
  const std::string_view lengths = head.substr(kFormatHeadBytes);
  ByteReader in(lengths);
  header_bytes_ = in.Count();
  snapshot_bytes_ = in.Count();
  if (in.U32() != Crc32c(lengths.substr(0, kLengthsBytes - 4)) || !in.done()) {
    return Damaged("its lengths have another checksum");
  }
  if (header_bytes_ > kMaxHeaderBytes) {
    return BadField(
        "chunk", absl::StrCat("found a header of ", header_bytes_,
                              " bytes, wanted ", kMaxHeaderBytes, " at most"));
  }
  if (snapshot_bytes_ > max_snapshot_bytes_) {
    return BadField("chunk", absl::StrCat("found a snapshot of ",
                                          snapshot_bytes_, " bytes, wanted ",
                                          max_snapshot_bytes_, " at most"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ExportedSession> ExportReader::Finish() {
  MNEME_RETURN_IF_ERROR(status_);
  if (static_cast<int64_t>(head_.size()) < kHeadBytes) {
    const std::string_view letters = kLetters;
    if (head_.empty() ||
        head_.substr(0, letters.size()) != letters.substr(0, head_.size())) {
      return BadField("chunk", "found no exported session");
    }
  }
  if (static_cast<int64_t>(trailer_.size()) < kTrailerBytes) {
    return Damaged("found its beginning only");
  }
  if (trailer_ != hash_.Digest()) return Damaged("it has another checksum");
  ExportedSession session;
  MNEME_ASSIGN_OR_RETURN(session.header, DecodeHeader(header_));
  MNEME_ASSIGN_OR_RETURN(const SessionSnapshot snapshot,
                         DecodeSnapshot(snapshot_));
  if (snapshot.header != session.header.snapshot) {
    return Damaged("its header is of another snapshot");
  }
  session.snapshot = std::move(snapshot_);
  return session;
}

}  // namespace mneme
