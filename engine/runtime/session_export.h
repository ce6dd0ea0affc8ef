// SPDX-License-Identifier: Apache-2.0
//
// A session as a portable file: what it is called and where it comes from, and
// a snapshot of it. engine/state/FORMAT.md has the grammar.
#ifndef MNEME_ENGINE_RUNTIME_SESSION_EXPORT_H_
#define MNEME_ENGINE_RUNTIME_SESSION_EXPORT_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/sha256.h"
#include "engine/runtime/session_snapshot.h"

namespace mneme {

// Most of an export file beside the state: what a snapshot holds besides, and
// the header.
constexpr int64_t kExportBesideState = 4 << 20;

struct ExportHeader {
  std::string session;  // its id, where it was exported
  std::string uid;      // likewise
  std::string model;    // its name, likewise
  SnapshotHeader snapshot;
  std::string state_digest;    // 64 hex digits
  std::string history_digest;  // likewise
  std::map<std::string, std::string> labels;
  absl::Duration ttl;        // zero: never expires; whole nanoseconds
  absl::Time creation_time;  // likewise

  bool operator==(const ExportHeader&) const = default;
};

// A file that is to be sent.
class ExportFile {
 public:
  // `snapshot` as EncodeSnapshot makes it, of what `header` says.
  ExportFile(const ExportHeader& header, std::string snapshot);

  int64_t total_bytes() const;
  // The bytes from `offset` on: `most`, or fewer; none at the end of the file.
  // They belong to the file.
  std::string_view Read(int64_t offset, int64_t most) const;

 private:
  std::array<std::string, 3> pieces_;  // up to the snapshot; it; the trailer
};

struct ExportedSession {
  ExportHeader header;
  std::string snapshot;  // see DecodeSnapshot; its checksums were compared
};

// Takes a file piece by piece, and holds no more of it than its beginning says
// that there is.
class ExportReader {
 public:
  // Files with a longer snapshot are refused before it is read.
  explicit ExportReader(int64_t max_snapshot_bytes)
      : max_snapshot_bytes_(max_snapshot_bytes) {}

  // The next bytes, any number. INVALID_ARGUMENT (BAD_FIELD) naming "chunk" for
  // what is no such file, or a longer one; FAILED_PRECONDITION
  // (STATE_INCOMPATIBLE) for one of a newer version; DATA_LOSS for a damaged
  // one. After an error all others fail the same way.
  absl::Status Add(std::string_view chunk);

  // The session, once all was added; called once. Errors as Add; DATA_LOSS
  // also if the file is not complete.
  absl::StatusOr<ExportedSession> Finish();

 private:
  absl::Status AddBytes(std::string_view chunk);
  // Takes `chunk`'s front into `piece` until that has `bytes`; false if it
  // wants more.
  bool Fill(std::string& piece, int64_t bytes, std::string_view& chunk);
  // Reads the lengths of the pieces off head_.
  absl::Status ReadHead();

  const int64_t max_snapshot_bytes_;
  absl::Status status_;
  Sha256 hash_;  // of all but the trailer
  // The pieces so far, and the bytes of those whose length the head says.
  std::string head_;
  std::string header_;
  int64_t header_bytes_ = 0;
  std::string snapshot_;
  int64_t snapshot_bytes_ = 0;
  std::string trailer_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_SESSION_EXPORT_H_
