// SPDX-License-Identifier: Apache-2.0
//
// What a session store keeps, as plain values.
#ifndef MNEME_ENGINE_STORE_STORE_TYPES_H_
#define MNEME_ENGINE_STORE_STORE_TYPES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace mneme {

// A state that was kept, and where the history stood.
struct StoredSnapshot {
  std::string name;       // empty: an automatic one
  uint64_t blob = 0;      // its contents; see SessionStore::WriteBlob
  uint64_t next_seq = 0;  // the first journal record that it does not hold
  int64_t offset = 0;     // in the session's unit
  int64_t position = 0;   // tokens
  int64_t pending_tokens = 0;
  int64_t pending_bytes = 0;
  // 64 hex digits; empty if input still waited to be absorbed.
  std::string state_digest;
  std::string history_digest;     // 64 hex digits
  std::string model_fingerprint;  // likewise
  int64_t stored_bytes = 0;
  absl::Time create_time;

  bool operator==(const StoredSnapshot&) const = default;
};

// A session as a store knows it: all of it but the contents of snapshots and
// journal. Its history is the contents of the last automatic snapshot (none:
// an empty session), and then the journal from `replay_seq` on.
struct SessionRecord {
  std::string id;
  std::string uid;  // 32 hex digits; names all that belongs to it
  int64_t epoch = 1;
  int64_t revision = 1;
  bool counts_tokens = false;  // what offsets count: else bytes
  std::string model;
  std::string model_fingerprint;
  std::string arithmetic_level;  // that its state was last computed with
  std::map<std::string, std::string> labels;
  absl::Duration ttl;                    // zero: never expires
  int64_t snapshot_interval_tokens = 0;  // 0: the node's
  absl::Time create_time;
  absl::Time update_time;
  bool pinned = false;  // stays in memory
  // Not empty: a checksum failed, and this is what was found.
  std::string quarantine;
  // Then the newest snapshot that was found whole; empty if none was.
  std::string good_snapshot;
  // Automatic ones, the oldest first.
  std::vector<StoredSnapshot> ring;
  // Those with names, by name.
  std::map<std::string, StoredSnapshot> named;
  uint64_t replay_seq = 0;
  // The first record of the journal that is kept, if it begins there with an
  // empty session.
  absl::optional<uint64_t> start_seq;

  bool operator==(const SessionRecord&) const = default;
};

// A record of a journal. Those of a session are numbered without gaps.
struct JournalEntry {
  uint64_t seq = 0;
  std::string payload;  // see journal_record.h

  bool operator==(const JournalEntry&) const = default;
};

// A request that was carried out and may come again.
struct RememberedRequest {
  std::string id;
  std::string digest;  // of the whole request
  std::string reply;   // as its method spells it
  absl::Time time;

  bool operator==(const RememberedRequest&) const = default;
};

// One change of a session, made as a whole or not at all.
struct StoreWrite {
  std::string uid;
  // Puts the session's record. Blobs that no snapshot in it, nor in any other
  // session's record, refers to any longer are dropped.
  absl::optional<SessionRecord> record;
  // With a record: the session need not be there yet.
  bool create = false;
  // Drops the session with its record, its journal, and its blobs.
  bool remove = false;
  // What is dropped is to leave no bytes behind, as always with `remove`: see
  // SessionStore::Compact.
  bool forgets = false;
  // Journal records from here on are dropped, before any is appended.
  absl::optional<uint64_t> drop_journal_from;
  // Those before are dropped.
  absl::optional<uint64_t> drop_journal_before;
  std::vector<JournalEntry> append;
  // Kept for as long as requests are remembered, whatever becomes of the
  // session.
  absl::optional<RememberedRequest> request;
};

// The end of a session's journal.
struct JournalEnd {
  uint64_t next_seq = 0;
  std::string last;  // the last record's payload; empty if there is none
};

// A session as it is found when a store is opened.
struct FoundSession {
  SessionRecord record;
  // How far its journal goes: only of one that was written to since its record
  // was. Else its journal ends at record.replay_seq.
  absl::optional<JournalEnd> journal;
  // What is wrong with it beside its record; empty: nothing that was looked at.
  std::string damage;
};

struct StoreStats {
  int64_t sessions = 0;
  int64_t used_bytes = 0;     // of the disk, or of memory
  int64_t limit_bytes = 0;    // 0: none
  int64_t waiting_bytes = 0;  // of writes that are not durable yet
  bool writable = true;       // whether the last write got through
  bool must_compact = false;  // what was to be forgotten may still be there
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_STORE_TYPES_H_
