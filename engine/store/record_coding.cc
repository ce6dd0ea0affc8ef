// SPDX-License-Identifier: Apache-2.0
#include "engine/store/record_coding.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

// Durations beyond it are kept as it: some 292 years.
constexpr absl::Duration kMaxDuration = absl::Nanoseconds(INT64_MAX);

void WriteDuration(absl::Duration duration, ByteWriter& out) {
  out.I64(absl::ToInt64Nanoseconds(
      std::clamp(duration, -kMaxDuration, kMaxDuration)));
}

absl::Duration ReadDuration(ByteReader& in) {
  return absl::Nanoseconds(in.I64());
}

void WriteSnapshot(const StoredSnapshot& snapshot, ByteWriter& out) {
  out.Bytes(snapshot.name);
  out.U64(snapshot.blob);
  out.U64(snapshot.next_seq);
  out.I64(snapshot.offset);
  out.I64(snapshot.position);
  out.I64(snapshot.pending_tokens);
  out.I64(snapshot.pending_bytes);
  out.Bytes(snapshot.state_digest);
  out.Bytes(snapshot.history_digest);
  out.Bytes(snapshot.model_fingerprint);
  out.I64(snapshot.stored_bytes);
  WriteTime(snapshot.create_time, out);
}

StoredSnapshot ReadSnapshot(ByteReader& in) {
  StoredSnapshot snapshot;
  snapshot.name = in.String();
  snapshot.blob = in.U64();
  snapshot.next_seq = in.U64();
  snapshot.offset = in.Count();
  snapshot.position = in.Count();
  snapshot.pending_tokens = in.Count();
  snapshot.pending_bytes = in.Count();
  snapshot.state_digest = in.String();
  snapshot.history_digest = in.String();
  snapshot.model_fingerprint = in.String();
  snapshot.stored_bytes = in.Count();
  snapshot.create_time = ReadTime(in);
  return snapshot;
}

absl::Status NoRecord(const char* what) {
  return absl::DataLossError(
      absl::StrCat("the bytes are no ", what, " of format version 1"));
}

}  // namespace

void WriteTime(absl::Time time, ByteWriter& out) {
  out.I64(absl::ToUnixNanos(time));
}

absl::Time ReadTime(ByteReader& in) { return absl::FromUnixNanos(in.I64()); }

std::string EncodeSessionRecord(const SessionRecord& record) {
  std::string bytes;
  ByteWriter out(bytes);
  out.Bytes(record.id);
  out.Bytes(record.uid);
  out.I64(record.epoch);
  out.I64(record.revision);
  out.Bool(record.counts_tokens);
  out.Bytes(record.model);
  out.Bytes(record.model_fingerprint);
  out.Bytes(record.arithmetic_level);
  out.U64(record.labels.size());
  for (const auto& [key, value] : record.labels) {
    out.Bytes(key);
    out.Bytes(value);
  }
  WriteDuration(record.ttl, out);
  out.I64(record.snapshot_interval_tokens);
  WriteTime(record.create_time, out);
  WriteTime(record.update_time, out);
  out.Bool(record.pinned);
  out.Bytes(record.quarantine);
  out.Bytes(record.good_snapshot);
  out.U64(record.ring.size());
  for (const StoredSnapshot& snapshot : record.ring) {
    WriteSnapshot(snapshot, out);
  }
  out.U64(record.named.size());
  for (const auto& [name, snapshot] : record.named) {
    WriteSnapshot(snapshot, out);
  }
  out.U64(record.replay_seq);
  out.Bool(record.start_seq.has_value());
  if (record.start_seq.has_value()) out.U64(*record.start_seq);
  return bytes;
}

absl::StatusOr<SessionRecord> DecodeSessionRecord(std::string_view bytes) {
  ByteReader in(bytes);
  SessionRecord record;
  record.id = in.String();
  record.uid = in.String();
  record.epoch = in.Count();
  record.revision = in.Count();
  record.counts_tokens = in.Bool();
  record.model = in.String();
  record.model_fingerprint = in.String();
  record.arithmetic_level = in.String();
  // A count too large runs into the end of the bytes.
  for (uint64_t left = in.U64(); left > 0 && in.ok(); --left) {
    std::string key = in.String();
    // In their order, each once.
    if (!record.labels.empty() && key <= record.labels.rbegin()->first) {
      in.Fail();
    }
    record.labels.emplace_hint(record.labels.end(), std::move(key),
                               in.String());
  }
  record.ttl = ReadDuration(in);
  record.snapshot_interval_tokens = in.Count();
  record.create_time = ReadTime(in);
  record.update_time = ReadTime(in);
  record.pinned = in.Bool();
  record.quarantine = in.String();
  record.good_snapshot = in.String();
  for (uint64_t left = in.U64(); left > 0 && in.ok(); --left) {
    record.ring.push_back(ReadSnapshot(in));
  }
  for (uint64_t left = in.U64(); left > 0 && in.ok(); --left) {
    StoredSnapshot snapshot = ReadSnapshot(in);
    if (!record.named.empty() &&
        snapshot.name <= record.named.rbegin()->first) {
      in.Fail();
    }
    std::string name = snapshot.name;
    record.named.emplace_hint(record.named.end(), std::move(name),
                              std::move(snapshot));
  }
  record.replay_seq = in.U64();
  if (in.Bool()) record.start_seq = in.U64();
  if (!in.done()) return NoRecord("session record");
  return record;
}

std::string EncodeAgedRequest(const AgedRequest& aged) {
  std::string bytes;
  ByteWriter out(bytes);
  WriteDuration(aged.store_age, out);
  out.Bytes(aged.request.id);
  out.Bytes(aged.request.digest);
  out.Bytes(aged.request.reply);
  WriteTime(aged.request.time, out);
  return bytes;
}

absl::StatusOr<AgedRequest> DecodeAgedRequest(std::string_view bytes) {
  ByteReader in(bytes);
  AgedRequest aged;
  aged.store_age = absl::Nanoseconds(in.Count());
  aged.request.id = in.String();
  aged.request.digest = in.String();
  aged.request.reply = in.String();
  aged.request.time = ReadTime(in);
  if (!in.done()) return NoRecord("remembered request");
  return aged;
}

std::string EncodeNumber(uint64_t number) {
  std::string bytes;
  ByteWriter(bytes).U64(number);
  return bytes;
}

absl::StatusOr<uint64_t> DecodeNumber(std::string_view bytes) {
  ByteReader in(bytes);
  const uint64_t number = in.U64();
  if (!in.done()) return NoRecord("number");
  return number;
}

}  // namespace mneme
