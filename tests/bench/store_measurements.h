// SPDX-License-Identifier: Apache-2.0
//
// What durability and coming and going cost, each beside the disk's own time
// for the same bytes, the two in turn.
#ifndef MNEME_TESTS_BENCH_STORE_MEASUREMENTS_H_
#define MNEME_TESTS_BENCH_STORE_MEASUREMENTS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace mneme::bench {

// A model's files, and a folder that is made and goes again.
struct StoreBench {
  std::string model;
  std::string folder;
  int threads = 0;
};

struct Percentiles {
  double p50 = 0;
  double p99 = 0;
};

// Seconds of a segment of `bytes` into a session until it is durable, and of
// writing and syncing as much.
struct DurableAppends {
  Percentiles append;
  Percentiles disk;
};
absl::StatusOr<DurableAppends> AppendDurably(const StoreBench& bench,
                                             int64_t bytes, int rounds);

// Segments made durable in a second, when each of `sessions` writes one after
// the other; and plain writes, one after the other.
struct GroupedAppends {
  double appends_per_second = 0;
  double disk_writes_per_second = 0;
};
absl::StatusOr<GroupedAppends> AppendTogether(const StoreBench& bench,
                                              int sessions, int64_t bytes,
                                              int rounds);

// Medians, in seconds. A load is of a session that is cold: right after it was
// saved, so that the store has it in its write buffers; from files that the
// page cache has; and from files that it has not.
struct Residence {
  int64_t state_bytes = 0;  // in memory
  int64_t saved_bytes = 0;  // in the store: the size of the plain file
  double save = 0;          // an eviction, until it is durable
  double disk_write = 0;
  double load_buffered = 0;
  double load_cached = 0;
  double load_from_disk = 0;
  double read_cached = 0;  // the plain file
  double read_from_disk = 0;
  double fork_changed = 0;    // of a session that was written to
  double fork_unchanged = 0;  // of one whose last snapshot is all there is
  double disk_append = 0;     // 1,000 bytes, synced
  double export_file = 0;     // all of it read
};
absl::StatusOr<Residence> SaveAndLoad(const StoreBench& bench, int rounds);

// An engine and a daemon that find `sessions` cold sessions.
struct Start {
  int64_t sessions = 0;
  int64_t stored_bytes = 0;   // the store's files
  double read_seconds = 0;    // of those, plain, from the page cache
  double engine_seconds = 0;  // until sessions are found
  double daemon_seconds = 0;  // until it is ready, its model loaded
  double empty_seconds = 0;   // the same without a session
  int64_t index_bytes = 0;    // the published term, of all
  int64_t daemon_growth = 0;  // resident memory beyond that of the empty one
};
absl::StatusOr<Start> StartWithSessions(const StoreBench& bench,
                                        const std::string& mnemed,
                                        int64_t sessions);

}  // namespace mneme::bench

#endif  // MNEME_TESTS_BENCH_STORE_MEASUREMENTS_H_
