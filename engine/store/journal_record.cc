// SPDX-License-Identifier: Apache-2.0
#include "engine/store/journal_record.h"

#include <utility>

#include "absl/status/status.h"
#include "engine/base/byte_coder.h"

namespace mneme {
namespace {

constexpr uint8_t kVersion = 1;
enum class Type : uint8_t { kInput = 1, kAsk = 2, kSaid = 3 };
// A token's id and the length of its bytes.
constexpr size_t kMinTokenBytes = 12;

void Write(const InputRecord& input, ByteWriter& out) {
  out.U8(static_cast<uint8_t>(Type::kInput));
  out.Bytes(input.role);
  out.Bool(input.end_of_turn);
  out.Bytes(input.bytes);
}

void Write(const AskRecord& ask, ByteWriter& out) {
  out.U8(static_cast<uint8_t>(Type::kAsk));
  out.U8(static_cast<uint8_t>(ask.kind));
  out.I64(ask.position);
  out.Bytes(ask.prompt);
  out.Bytes(ask.prompt_role);
  out.Bool(ask.begins_reply);
  out.Bytes(ask.request_id);
  out.Bytes(ask.request_digest);
  out.Bytes(ask.options);
}

void Write(const SaidRecord& said, ByteWriter& out) {
  out.U8(static_cast<uint8_t>(Type::kSaid));
  out.U64(said.tokens.size());
  for (const TakenToken& token : said.tokens) {
    out.U32(static_cast<uint32_t>(token.id));
    out.Bytes(token.bytes);
  }
  out.Bool(said.end.has_value());
  if (!said.end.has_value()) return;
  out.U8(said.end->reason);
  out.U32(static_cast<uint32_t>(said.end->status_code));
  out.Bytes(said.end->message);
  out.I64(said.end->computed_tokens);
}

InputRecord ReadInput(ByteReader& in) {
  InputRecord input;
  input.role = in.String();
  input.end_of_turn = in.Bool();
  input.bytes = in.String();
  return input;
}

AskRecord ReadAsk(ByteReader& in) {
  AskRecord ask;
  const uint8_t kind = in.U8();
  if (kind < 1 || kind > 3) in.Fail();
  ask.kind = static_cast<AskRecord::Kind>(kind);
  ask.position = in.Count();
  ask.prompt = in.String();
  ask.prompt_role = in.String();
  ask.begins_reply = in.Bool();
  ask.request_id = in.String();
  ask.request_digest = in.String();
  ask.options = in.String();
  return ask;
}

SaidRecord ReadSaid(ByteReader& in) {
  SaidRecord said;
  const uint64_t count = in.U64();
  if (count > in.left() / kMinTokenBytes) in.Fail();
  for (uint64_t i = 0; in.ok() && i < count; ++i) {
    TakenToken token;
    token.id = static_cast<int32_t>(in.U32());
    token.bytes = in.String();
    if (token.id < 0) in.Fail();
    said.tokens.push_back(std::move(token));
  }
  if (!in.Bool()) return said;
  EndRecord end;
  end.reason = in.U8();
  end.status_code = static_cast<int32_t>(in.U32());
  end.message = in.String();
  end.computed_tokens = in.Count();
  said.end = std::move(end);
  return said;
}

}  // namespace

std::string EncodeJournalRecord(const JournalRecord& record) {
  std::string bytes;
  ByteWriter out(bytes);
  out.U8(kVersion);
  out.I64(absl::ToUnixNanos(record.time));
  out.I64(record.offset);
  out.I64(record.end_offset);
  std::visit([&out](const auto& body) { Write(body, out); }, record.body);
  return bytes;
}

absl::StatusOr<JournalRecord> DecodeJournalRecord(std::string_view bytes) {
  ByteReader in(bytes);
  if (in.U8() != kVersion) {
    return absl::DataLossError("journal record: the version is unknown");
  }
  JournalRecord record;
  record.time = absl::FromUnixNanos(in.I64());
  record.offset = in.Count();
  record.end_offset = in.Count();
  if (record.end_offset < record.offset) in.Fail();
  switch (static_cast<Type>(in.U8())) {
    case Type::kInput:
      record.body = ReadInput(in);
      break;
    case Type::kAsk:
      record.body = ReadAsk(in);
      break;
    case Type::kSaid:
      record.body = ReadSaid(in);
      break;
    default:
      in.Fail();
  }
  if (!in.done()) {
    return absl::DataLossError("journal record: it is cut off or malformed");
  }
  return record;
}

}  // namespace mneme
