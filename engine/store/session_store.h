// SPDX-License-Identifier: Apache-2.0
//
// Where sessions outlive the process: for each one a record, a journal of what
// its history was given since, and snapshots of its state.
//
// Writes are queued and committed in groups, in the order in which they came,
// with one sync for each group. Reads block, and are for threads that may.
//
// A store that several nodes share fits behind this interface: every write
// names a session, whose epoch its record holds, and may be answered ABORTED
// (EPOCH_FENCED) if another node owns it by then.
#ifndef MNEME_ENGINE_STORE_SESSION_STORE_H_
#define MNEME_ENGINE_STORE_SESSION_STORE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/store/store_types.h"

namespace mneme {

// Thread-safe. Errors of all methods: UNAVAILABLE (STORE_UNAVAILABLE) if the
// store cannot read or write; DATA_LOSS if what it reads is damaged.
class SessionStore {
 public:
  // How long requests are remembered, and how many bytes of them.
  static constexpr absl::Duration kKeepRequests = absl::Hours(24);
  static constexpr int64_t kMaxRequestBytes = 8 << 20;

  // Called once, from a thread of the store, in the order of the writes.
  using Done = std::function<void(const absl::Status&)>;

  // Writes that wait are carried out first.
  virtual ~SessionStore() = default;

  // Whether what is written survives a crash and a loss of power.
  virtual bool durable() const = 0;

  // Queues a change; returns at once. It is durable, where the store is, once
  // `done`, which may be null, is called with OK; with an error it is not
  // there, but for a loss of power or a crash right then, after which it may
  // be: the caller appends again with drop_journal_from, or not at all. After
  // an error all writes of that session are refused with it, until one comes
  // that has `drop_journal_from` or `remove`, and so does not build on what
  // failed. RESOURCE_EXHAUSTED (QUOTA) if the store holds as much as it may and
  // the write would add to it; NOT_FOUND if the session is not there and is
  // not created; FAILED_PRECONDITION if the record refers to a blob that is
  // not there any more; DATA_LOSS if the session's record is damaged and none
  // is put; INTERNAL if the write does not fit the session, for one if it would
  // leave a gap in the journal.
  virtual void Write(StoreWrite write, Done done) = 0;
  // Until all that was queued has called its `done`. Not from there.
  virtual void AwaitWrites() = 0;

  // Begins to write the contents of a snapshot, to which a record may refer by
  // the number returned once SyncBlob has returned OK; one to which none does
  // is dropped when the store is opened next, or by DropBlob.
  // It is sealed where it is: what is left in `contents` means nothing.
  virtual absl::StatusOr<uint64_t> WriteBlob(std::string& contents) = 0;
  // After an error it is dropped.
  virtual absl::Status SyncBlob(uint64_t blob) = 0;
  // One that a record refers to stays.
  virtual void DropBlob(uint64_t blob) = 0;
  // Into `contents`, whose memory is used again.
  virtual absl::Status ReadBlob(uint64_t blob, std::string& contents) const = 0;

  // Calls `read` with the records of a session from `seq` on, until it returns
  // false. DATA_LOSS, naming it, if one is damaged or missing. NOT_FOUND if
  // the session is not there.
  virtual absl::Status ReadJournal(
      const std::string& uid, uint64_t seq,
      absl::FunctionRef<bool(uint64_t seq, std::string_view payload)> read)
      const = 0;

  // All sessions, by uid. Of one whose record is damaged, `damaged` gets the
  // uid and what is wrong.
  virtual absl::Status ReadSessions(
      absl::FunctionRef<void(FoundSession session)> read,
      absl::FunctionRef<void(const std::string& uid, const absl::Status& error)>
          damaged) const = 0;
  // Reads all that is kept of a session: DATA_LOSS with all that is wrong.
  // NOT_FOUND if it is not there.
  virtual absl::Status VerifySession(const std::string& uid) const = 0;
  // The oldest first. Damaged ones are logged and left out.
  virtual absl::StatusOr<std::vector<RememberedRequest>> ReadRequests()
      const = 0;

  // Rewrites what is kept so that nothing of what was dropped is left anywhere.
  // Whether that is due is remembered across restarts (StoreStats).
  virtual absl::Status Compact() = 0;

  virtual StoreStats stats() const = 0;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_SESSION_STORE_H_
